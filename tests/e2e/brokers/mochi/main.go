// A mochi-mqtt broker for the end-to-end tests:
//
//	mochi [-refuse FILTER]... [-receive-maximum N] [-ws ADDRESS] ADDRESS
//
// It listens at ADDRESS, lets everyone in, and refuses clients what -refuse names: to subscribe to
// that filter, and to publish to topics that it matches.
package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// access lets in every client and refuses single filters.
type access struct {
	mqtt.HookBase
	refused list
}

func (a *access) ID() string { return "access" }

func (a *access) Provides(b byte) bool {
	return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck
}

func (a *access) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

func (a *access) OnACLCheck(_ *mqtt.Client, topic string, _ bool) bool {
	for _, filter := range a.refused {
		if filter == topic || matches(filter, topic) {
			return false
		}
	}
	return true
}

func matches(filter, topic string) bool {
	levels := strings.Split(topic, "/")
	wanted := strings.Split(filter, "/")
	for i, level := range wanted {
		if level == "#" {
			return true
		}
		if i >= len(levels) || level != "+" && level != levels[i] {
			return false
		}
	}
	return len(levels) == len(wanted)
}

func main() {
	var refused list
	flag.Var(&refused, "refuse", "a filter that clients may not use")
	receiveMaximum := flag.Uint("receive-maximum", 1024, "QoS 1 and 2 publications at once")
	ws := flag.String("ws", "", "address of the WebSocket listener")
	flag.Parse()

	server := mqtt.New(nil)
	server.Options.Capabilities.ReceiveMaximum = uint16(*receiveMaximum)
	must(server.AddHook(&access{refused: refused}, nil))
	must(server.AddListener(listeners.NewTCP("tcp", flag.Arg(0), nil)))
	if *ws != "" {
		must(server.AddListener(listeners.NewWebsocket("ws", *ws, nil)))
	}
	must(server.Serve())

	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
	_ = server.Close()
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
