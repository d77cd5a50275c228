// Eclipse Paho Go with many clients, used as its documentation shows. Same commands as peer.h.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sys/unix"
)

const (
	buckets     = 1024
	inFlightMax = 64
	stampDigits = 19
)

var (
	port      = flag.Int("port", 0, "")
	clients   = flag.Int("clients", 0, "")
	qos       = flag.Int("qos", 1, "")
	prefix    = flag.String("prefix", "bench/", "")
	keepalive = flag.Int("keepalive", 60, "")
	ca        = flag.String("ca", "", "")

	received, bytes uint64
	delays          [buckets]uint64

	// The monotonic clock of the load: where it stood when this program began.
	began      = time.Now()
	beganStamp int64
)

func bucket(us uint64) int {
	if us < 32 {
		return int(us)
	}
	exponent := bits.Len64(us) - 1
	index := (exponent-4)*32 + int(us>>(exponent-5)&31)
	if index >= buckets {
		return buckets - 1
	}
	return index
}

func onMessage(_ mqtt.Client, message mqtt.Message) {
	payload := message.Payload()
	atomic.AddUint64(&received, 1)
	atomic.AddUint64(&bytes, uint64(len(payload)))
	if len(payload) < 2+stampDigits {
		return
	}
	var sent int64
	for _, digit := range payload[2 : 2+stampDigits] {
		sent = sent*10 + int64(digit-'0')
	}
	delay := beganStamp + int64(time.Since(began)) - sent
	if delay < 0 {
		delay = 0
	}
	atomic.AddUint64(&delays[bucket(uint64(delay)/1000)], 1)
}

func must(token mqtt.Token) {
	if token.Wait() && token.Error() != nil {
		fmt.Fprintln(os.Stderr, token.Error())
		os.Exit(1)
	}
}

func open(index int, secure *tls.Config) {
	scheme := "tcp"
	options := mqtt.NewClientOptions()
	if secure != nil {
		scheme = "ssl"
		options.SetTLSConfig(secure)
	}
	options.AddBroker(fmt.Sprintf("%s://127.0.0.1:%d", scheme, *port))
	options.SetClientID(fmt.Sprintf("c%05d", index))
	options.SetKeepAlive(time.Duration(*keepalive) * time.Second)
	options.SetAutoReconnect(false)
	client := mqtt.NewClient(options)
	must(client.Connect())
	must(client.Subscribe(fmt.Sprintf("%s%05d", *prefix, index), byte(*qos), onMessage))
}

func start() {
	var all sync.WaitGroup
	var secure *tls.Config
	if *ca != "" {
		pem, err := os.ReadFile(*ca)
		if err != nil {
			panic(err)
		}
		secure = &tls.Config{RootCAs: x509.NewCertPool()}
		secure.RootCAs.AppendCertsFromPEM(pem)
	}
	places := make(chan bool, inFlightMax)
	for i := 0; i < *clients; i++ {
		places <- true
		all.Add(1)
		go func(index int) {
			open(index, secure)
			<-places
			all.Done()
		}(i)
	}
	all.Wait()
	fmt.Printf("{\"online\":%d}\n", *clients)
}

func report() {
	rows := [][2]uint64{}
	for i := range delays {
		if count := atomic.LoadUint64(&delays[i]); count > 0 {
			rows = append(rows, [2]uint64{uint64(i), count})
		}
	}
	line, _ := json.Marshal(map[string]interface{}{
		"received":  atomic.LoadUint64(&received),
		"bytes":     atomic.LoadUint64(&bytes),
		"delays_us": rows,
	})
	fmt.Println(string(line))
}

func main() {
	var now unix.Timespec
	flag.Parse()
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	beganStamp = now.Nano() - int64(time.Since(began))
	fmt.Println(`{"ready":true}`)
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		switch commands.Text() {
		case "start":
			start()
		case "mark":
			atomic.StoreUint64(&received, 0)
			atomic.StoreUint64(&bytes, 0)
			for i := range delays {
				atomic.StoreUint64(&delays[i], 0)
			}
			fmt.Println(`{"marked":true}`)
		case "report":
			report()
		case "quit":
			return
		}
	}
}
