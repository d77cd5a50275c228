/* The rows of mqtt/client_error.h, the only file that includes this: symbol, code, metric of a
 * failed connect, metric of a loss, text, advice. If only the code of an error is known, the first
 * row with that code is used: the most general one. */
#ifndef MQFLEET_MQTT_CLIENT_ERROR_TABLE_H
#define MQFLEET_MQTT_CLIENT_ERROR_TABLE_H

#define CLIENT_ERRORS_OF_THE_NODE(X)                                                               \
    X(OUT_OF_MEMORY, "out_of_memory", OTHER, OTHER, "out of memory",                               \
      "give the node more memory, or fewer clients (node_info.size)")                              \
    X(OUT_OF_DESCRIPTORS, "out_of_descriptors", OTHER, OTHER,                                      \
      "no descriptor is left for a connection: raise the limit of open files",                     \
      "raise the limit of open files of the node")                                                 \
    X(OUT_OF_PORTS, "out_of_ports", OTHER, OTHER,                                                  \
      "no local port is left for a connection to this broker: give more source addresses",         \
      "give the node more source_addresses")                                                       \
    X(SOURCE_ADDRESS_UNUSABLE, "source_address_unusable", OTHER, OTHER,                            \
      "the local address (setting source_addresses) cannot be used",                               \
      "correct the node's setting source_addresses")                                               \
    X(BUFFERS_FULL, "buffers_full", OTHER, OTHER,                                                  \
      "the node's buffers are full (setting buffer_bytes)",                                        \
      "raise the node's setting buffer_bytes, or give the node fewer clients")                     \
    X(ENGINE_FAILED, "engine_failed", OTHER, OTHER, "the engine could not open a connection",      \
      "check the node's log")                                                                      \
    X(BAD_CONFIGURATION, "bad_configuration", OTHER, OTHER,                                        \
      "the configuration cannot be used to connect", "correct the client's configuration")         \
    X(BAD_CONFIG, "bad_config", OTHER, OTHER, "the stored configuration cannot be read",           \
      "correct the client's configuration, or store it again")                                     \
    X(SECRET_UNAVAILABLE, "secret_unavailable", OTHER, OTHER, "a secret cannot be read here",      \
      "make the file or variable that the configuration names readable on this node")              \
    X(SECRET_UNREADABLE, "secret_unreadable", OTHER, OTHER, "a secret cannot be decrypted here",   \
      "give the node the key with which the secret was encrypted (secrets.key_file)")              \
    X(SINK_MISSING, "sink_missing", OTHER, OTHER, "the node does not have the client's sink",      \
      "configure the sink on this node, or give the client another one")                           \
    X(SINK_UNAVAILABLE, "sink_unavailable", OTHER, SINK, "the sink accepts no messages",           \
      "check the sink's error in the status of the node")                                          \
    X(MESSAGE_NOT_ACCEPTED, "message_not_accepted", OTHER, SINK,                                   \
      "a message could not be handed to the sink",                                                 \
      "check the sink's error in the status of the node")                                          \
    X(IDENTITY_TAKEN, "identity_taken", OTHER, OTHER,                                              \
      "another client has the same broker and client_id",                                          \
      "give one of the two clients another client_id")                                             \
    X(OWNER_UNREACHABLE, "owner_unreachable", OTHER, OTHER,                                        \
      "the node that has the client does not answer this node",                                    \
      "check the network between the nodes, and node_info.host and port of that node")             \
    X(CLOSED_BY_US, "closed_by_us", OTHER, OTHER, "closed by this node", NULL)

#define CLIENT_ERRORS_OF_THE_NETWORK(X)                                                                    \
    X(BROKER_DENIED, "broker_denied", DENIED, OTHER, "the node's rules deny this broker",                  \
      "use a broker that the node's settings broker_allow and broker_deny permit, or change "              \
      "them")                                                                                              \
    X(DNS_FAILED, "dns_failed", DNS, OTHER, "the name server did not answer",                              \
      "check that the node can reach its name servers (/etc/resolv.conf), or use an address")              \
    X(DNS_TIMEOUT, "dns_failed", DNS, OTHER, "DNS look-up timed out",                                      \
      "check that the node can reach its name servers (/etc/resolv.conf), or use an address")              \
    X(DNS_BUSY, "dns_failed", DNS, OTHER, "too many names are waiting for DNS",                            \
      "check that the node's name servers answer quickly, or raise resolver_threads")                      \
    X(DNS_NAME_UNKNOWN, "dns_failed", DNS, OTHER, "no such host name",                                     \
      "check the spelling of the host in broker or url, and that this node's DNS knows it")                \
    X(DNS_NO_ADDRESS, "dns_failed", DNS, OTHER, "the name has no address",                                 \
      "give the host an A or AAAA record, or use an address")                                              \
    X(CONNECT_TIMEOUT, "connect_timeout", TIMEOUT, OTHER,                                                  \
      "the broker did not accept the connection in time",                                                  \
      "check address, port and scheme (mqtt, mqtts, ws, wss), and the broker's log")                       \
    X(TCP_TIMEOUT, "connect_timeout", TIMEOUT, OTHER, "TCP connection timed out",                          \
      "no answer: check the address, and that no firewall between this node and the "                      \
      "broker drops the packets")                                                                          \
    X(CONNECTION_REFUSED, "connection_refused", TCP, OTHER, "Connection refused",                          \
      "nothing listens there: check host and port (1883 is usual for mqtt, 8883 for mqtts), and "          \
      "that the broker runs")                                                                              \
    X(NETWORK_UNREACHABLE, "connection_refused", TCP, OTHER, "the broker cannot be reached",               \
      "check the host, and the routes and firewalls between this node and the broker")                     \
    X(CONNECTION_LOST, "connection_lost", TCP, CLOSED, "the connection to the broker was lost",            \
      "check the broker's log: it gave no reason")                                                         \
    X(CLOSED_AT_AN_AGE, "connection_lost", TCP, CLOSED,                                                    \
      "the broker ends connections after a fixed time, also of other clients",                             \
      "search the broker's configuration for a limit of the connection time, such as the life of a token") \
    X(KEEPALIVE_TIMEOUT, "keepalive_timeout", OTHER, KEEPALIVE,                                            \
      "the broker did not answer PINGREQ",                                                                 \
      "check the network between node and broker, and the load of the broker")

#define CLIENT_ERRORS_OF_TLS(X)                                                                    \
    X(TLS_FAILED, "tls_failed", TLS, OTHER, "TLS handshake failed",                                \
      "check the fields of tls against what the broker expects")                                   \
    X(TLS_TIMEOUT, "connect_timeout", TIMEOUT, OTHER, "TLS handshake timed out",                   \
      "this port does not answer TLS: use mqtt://, or the broker's port for TLS, usually 8883")    \
    X(TLS_CLOSED_AT_ONCE, "connection_refused", TCP, OTHER,                                        \
      "the broker closed the connection at once: is this the port for TLS, WebSocket or plain "    \
      "MQTT?",                                                                                     \
      "this port does not seem to be one for TLS: use mqtt://, or the broker's port for TLS")      \
    X(TLS_CLOSED, "tls_failed", TLS, OTHER,                                                        \
      "the broker closed the connection during the TLS handshake: does it want a client "          \
      "certificate (tls.cert, tls.key)?",                                                          \
      "give tls.cert and tls.key if the broker wants a certificate of the client; else check "     \
      "its log")                                                                                   \
    X(TLS_FILE_UNREADABLE, "tls_file_unreadable", TLS, OTHER,                                      \
      "tls.ca, tls.cert or tls.key is not a regular file that clients may use on this node",       \
      "put the file below a folder of the node's secrets.files_allow, readable for the node, or "  \
      "its PEM text into the configuration")                                                       \
    X(TLS_CA_INVALID, "tls_failed", TLS, OTHER,                                                    \
      "tls.ca holds no certificates in PEM that can be read",                                      \
      "correct tls.ca: certificates in PEM, or the path of a file of the node that holds them")    \
    X(TLS_CERT_INVALID, "tls_failed", TLS, OTHER,                                                  \
      "tls.cert holds no certificate in PEM that can be used here",                                \
      "correct tls.cert: a certificate in PEM, or the path of a file of the node that holds it")   \
    X(TLS_CERT_TOO_WEAK, "tls_failed", TLS, OTHER,                                                 \
      "the key or the signature of tls.cert is too weak",                                          \
      "give a stronger tls.cert (RSA 2048 or ECDSA, SHA-256), or lower tls.security_level")        \
    X(TLS_KEY_INVALID, "tls_failed", TLS, OTHER,                                                   \
      "tls.key holds no private key in PEM that can be read",                                      \
      "correct tls.key: a key in PEM, or the path of a file of the node that holds it")            \
    X(TLS_KEY_MISMATCH, "tls_failed", TLS, OTHER, "tls.key is not the key of tls.cert",            \
      "give the tls.cert and the tls.key that belong together")                                    \
    X(TLS_KEY_ENCRYPTED, "tls_failed", TLS, OTHER, "tls.key is protected by a passphrase",         \
      "give tls.key_password, or tls.key without a passphrase (openssl pkey -in KEY -out PLAIN)")  \
    X(TLS_KEY_PASSWORD, "tls_failed", TLS, OTHER, "tls.key_password does not open tls.key",        \
      "correct tls.key_password")                                                                  \
    X(TLS_NOT_SPOKEN, "tls_failed", TLS, OTHER,                                                    \
      "the broker does not speak TLS on this port: is it one for plain MQTT or WebSocket?",        \
      "check host and port: TLS usually uses 8883; a port for plain MQTT or WebSocket takes "      \
      "mqtt:// or ws://")                                                                          \
    X(TLS_VERSION, "tls_failed", TLS, OTHER,                                                       \
      "the broker has no version of TLS that tls.min_version permits (1.2 and later unless "       \
      "given)",                                                                                    \
      "let the broker offer a later version of TLS, or lower tls.min_version (below 1.2 with "     \
      "tls.security_level 0)")                                                                     \
    X(TLS_TOO_WEAK, "tls_failed", TLS, OTHER, "what the broker offers for TLS is too weak",        \
      "let the broker offer stronger keys and ciphers, or permit these with a lower "              \
      "tls.security_level (and tls.min_version)")                                                  \
    X(TLS_NOTHING_IN_COMMON, "tls_failed", TLS, OTHER,                                             \
      "the broker refused the handshake: it has no cipher in common, or does not accept "          \
      "tls.cert",                                                                                  \
      "check that the broker's authority issued tls.cert; for an old broker lower "                \
      "tls.security_level")                                                                        \
    X(TLS_BROKER_TROUBLE, "tls_failed", TLS, OTHER,                                                \
      "the broker reports an internal error in the TLS handshake", "check the broker's log")       \
    X(TLS_ALPN_WANTED, "tls_failed", TLS, OTHER,                                                   \
      "the broker wants the name of a protocol (ALPN), and tls.alpn gives none",                   \
      "give tls.alpn the name that the broker expects, such as mqtt (AWS IoT: x-amzn-mqtt-ca)")    \
    X(TLS_CLOSED_ALPN, "tls_failed", TLS, OTHER,                                                   \
      "the broker closed the connection during the TLS handshake",                                 \
      "on port 443 brokers often want tls.alpn, such as mqtt (AWS IoT: x-amzn-mqtt-ca)")           \
    X(TLS_HANDSHAKE_REFUSED, "tls_failed", TLS, OTHER,                                             \
      "the broker refused the handshake: it wants a client certificate (tls.cert, tls.key), or "   \
      "has no cipher in common",                                                                   \
      "give tls.cert and tls.key if the broker wants a certificate of the client; for an old "     \
      "broker lower tls.security_level")                                                           \
    X(TLS_CLIENT_CERTIFICATE_WANTED, "tls_failed", TLS, OTHER,                                     \
      "the broker wants a client certificate: tls.cert and tls.key",                               \
      "give tls.cert and tls.key, as the broker wants a certificate of the client")                \
    X(TLS_CLIENT_CERTIFICATE_REFUSED, "tls_failed", TLS, OTHER,                                    \
      "the broker does not accept tls.cert",                                                       \
      "give a tls.cert, with its tls.key, that the broker's authority has issued and is valid")    \
    X(TLS_SERVER_NAME_UNKNOWN, "tls_failed", TLS, OTHER,                                           \
      "the broker does not know the name it was asked for: check tls.server_name",                 \
      "give the name that the broker is known by as tls.server_name")                              \
    X(TLS_ALPN_REFUSED, "tls_failed", TLS, OTHER,                                                  \
      "the broker knows none of the names in tls.alpn",                                            \
      "give tls.alpn a name that the broker knows, such as mqtt")                                  \
    X(TLS_CERTIFICATE_REFUSED, "tls_failed", TLS, OTHER,                                           \
      "the broker's certificate was not accepted",                                                 \
      "check the broker's certificate, and check tls.ca against it")                               \
    X(TLS_CERTIFICATE_EXPIRED, "tls_failed", TLS, OTHER,                                           \
      "the broker's certificate was not accepted: it, or one of those it was issued by, has "      \
      "expired",                                                                                   \
      "renew the certificate of the broker")                                                       \
    X(TLS_CERTIFICATE_NOT_YET_VALID, "tls_failed", TLS, OTHER,                                     \
      "the broker's certificate was not accepted: it is not valid yet: are the clocks correct?",   \
      "correct the clocks of node and broker")                                                     \
    X(TLS_CERTIFICATE_SELF_SIGNED, "tls_failed", TLS, OTHER,                                       \
      "the broker's certificate was not accepted: it is self-signed and not the one in tls.ca",    \
      "put the broker's own certificate into tls.ca")                                              \
    X(TLS_CERTIFICATE_UNKNOWN_AUTHORITY, "tls_failed", TLS, OTHER,                                 \
      "the broker's certificate was not accepted: it was issued by an unknown authority: put "     \
      "that authority's certificate into tls.ca",                                                  \
      "put the certificate of the authority that issued the broker's into tls.ca: if its root is " \
      "there, let the broker send its intermediate as well, or put that into tls.ca")              \
    X(TLS_CERTIFICATE_FORGED, "tls_failed", TLS, OTHER,                                            \
      "the broker's certificate was not accepted: its signature is not by the authority in "       \
      "tls.ca, which has the same name",                                                           \
      "put the current certificate of the authority that issued the broker's into tls.ca")         \
    X(TLS_CERTIFICATE_TOO_WEAK, "tls_failed", TLS, OTHER,                                          \
      "the broker's certificate was not accepted: its key or signature is too weak",               \
      "give the broker a stronger certificate (RSA 2048 or ECDSA, SHA-256), or permit this one "   \
      "with a lower tls.security_level")                                                           \
    X(TLS_CERTIFICATE_PURPOSE, "tls_failed", TLS, OTHER,                                           \
      "the broker's certificate was not accepted: it, or one above it, is not for this purpose",   \
      "issue the broker's certificate for servers (extendedKeyUsage serverAuth), by a "            \
      "certificate of an authority (basicConstraints CA:TRUE)")                                    \
    X(TLS_NAME_MISMATCH, "tls_failed", TLS, OTHER,                                                 \
      "the broker's certificate is for another name: check the URL and tls.server_name",           \
      "connect by the name in the broker's certificate, or give that name as tls.server_name")     \
    X(TLS_NO_NAME, "tls_failed", TLS, OTHER,                                                       \
      "the broker's certificate has no subject alternative name",                                  \
      "issue the broker's certificate anew with a subjectAltName (DNS:name or IP:address), or "    \
      "give its common name as tls.server_name")

#define CLIENT_ERRORS_OF_WEBSOCKET(X)                                                              \
    X(WEBSOCKET_REFUSED, "websocket_refused", OTHER, OTHER, "the server opened no WebSocket",      \
      "check port and path of the url; the broker must offer MQTT over WebSocket there")           \
    X(WEBSOCKET_TIMEOUT, "connect_timeout", TIMEOUT, OTHER, "WebSocket handshake timed out",       \
      "this port does not answer HTTP: use mqtt://, or the broker's port for WebSocket")           \
    X(WEBSOCKET_CLOSED, "websocket_refused", OTHER, OTHER,                                         \
      "the broker closed the connection during the WebSocket handshake: is there a WebSocket at "  \
      "this port and path?",                                                                       \
      "check port and path of the url: the broker must offer MQTT over WebSocket there, and "      \
      "ports for mqtt:// and mqtts:// are others")                                                 \
    X(WEBSOCKET_WEB_PAGE, "websocket_refused", OTHER, OTHER,                                       \
      "the server answered with a web page instead of a WebSocket",                                \
      "correct port and path of the url: brokers often have their WebSocket at /mqtt or /ws")      \
    X(WEBSOCKET_REDIRECTED, "websocket_refused", OTHER, OTHER,                                     \
      "the server redirects elsewhere, which is not followed",                                     \
      "give the url that it redirects to")                                                         \
    X(WEBSOCKET_CREDENTIALS, "websocket_refused", OTHER, OTHER,                                    \
      "the server wants credentials before the WebSocket is opened",                               \
      "give what the server wants as websocket.headers (Authorization) or in the url's query")     \
    X(WEBSOCKET_FORBIDDEN, "websocket_refused", OTHER, OTHER, "access to this path is forbidden",  \
      "correct the path of the url, or let the server permit this access")                         \
    X(WEBSOCKET_PROXY, "websocket_refused", OTHER, OTHER, "a proxy on the way wants credentials",  \
      "let the node reach the broker without the proxy")                                           \
    X(WEBSOCKET_SERVER_TROUBLE, "websocket_refused", OTHER, OTHER,                                 \
      "the server, or a proxy before the broker, is not working",                                  \
      "check the log of the server or proxy: the broker behind it may be down")                    \
    X(WEBSOCKET_SUBPROTOCOL, "websocket_refused", OTHER, OTHER,                                    \
      "the WebSocket server chose another sub-protocol than mqtt",                                 \
      "correct the path of the url: the server there does not speak MQTT")                         \
    X(WEBSOCKET_NOT_FOUND, "websocket_refused", OTHER, OTHER, "there is nothing at this path",     \
      "correct the path of the url; brokers often use /mqtt or /")                                 \
    X(WEBSOCKET_NOT_HTTP, "websocket_refused", OTHER, OTHER,                                       \
      "the answer to the WebSocket handshake is not HTTP: is this a port for WebSocket?",          \
      "check host and port: the broker must offer MQTT over WebSocket there; a port for plain "    \
      "MQTT takes mqtt://")                                                                        \
    X(WEBSOCKET_OVER_TLS, "websocket_refused", OTHER, OTHER,                                       \
      "the answer to the WebSocket handshake is TLS: is this a port for wss?",                     \
      "use wss:// for this port")                                                                  \
    X(WEBSOCKET_FRAMES, "protocol_error", OTHER, PROTOCOL, "the WebSocket frames are invalid",     \
      "check what answers at port and path of the url: its WebSocket frames are not valid")

#define CLIENT_ERRORS_OF_CONNECT(X)                                                                \
    X(CONNACK_TIMEOUT, "connect_timeout", TIMEOUT, OTHER, "no CONNACK from the broker in time",    \
      "the port is open and does not answer MQTT: check port and scheme (mqtt, mqtts, ws, wss)")   \
    X(CLOSED_BEFORE_CONNACK, "connection_refused", TCP, OTHER,                                     \
      "the broker closed the connection before CONNACK: is this the port for TLS, WebSocket or "   \
      "plain MQTT?",                                                                               \
      "check that port and scheme belong together (mqtt, mqtts, ws, wss), and the broker's log: "  \
      "some just close on a client they do not want")                                              \
    X(CLOSED_BEFORE_CONNACK_V5, "connection_refused", TCP, OTHER,                                  \
      "the broker closed the connection before CONNACK: does it speak MQTT 5 on this port?",       \
      "set protocol_version to 4: many brokers close on MQTT 5 without a word; else check that "   \
      "port and scheme belong together (mqtt, mqtts, ws, wss), and the broker's log")              \
    X(CLOSED_BEFORE_CONNACK_TLS, "connection_refused", TCP, OTHER,                                 \
      "the broker closed the connection after the TLS handshake, before CONNACK",                  \
      "check the broker's log: some just close on a client they do not want (client_id, "          \
      "username, certificate); a port shared with others may want tls.alpn")                       \
    X(CLOSED_BEFORE_CONNACK_TLS_PORT, "connection_refused", TCP, OTHER,                            \
      "the broker closed the connection before CONNACK: is this its port for TLS?",                \
      "use mqtts:// for this port, which is usually one for TLS; else check the broker's log, "    \
      "and try protocol_version 4")                                                                \
    X(CLOSED_BEFORE_CONNACK_ALPN, "connection_refused", TCP, OTHER,                                \
      "the broker closed the connection after the TLS handshake, before CONNACK",                  \
      "give tls.alpn: on port 443 brokers want a name there, such as mqtt (AWS IoT: "              \
      "x-amzn-mqtt-ca); else try protocol_version 4, and check the broker's log")                  \
    X(CLOSED_BEFORE_CONNACK_PATH, "connection_refused", TCP, OTHER,                                \
      "the server closed the WebSocket before CONNACK: is there MQTT at this path?",               \
      "correct the path of the url (often /mqtt, /ws or /), or try the other protocol_version")    \
    X(CLOSED_IN_CONNACK, "protocol_error", OTHER, PROTOCOL,                                        \
      "the broker closed the connection in the middle of its first answer",                        \
      "check that this port speaks MQTT, and try the other protocol_version")                      \
    X(CONNACK_TIMEOUT_PATH, "connect_timeout", TIMEOUT, OTHER,                                     \
      "no CONNACK over the WebSocket in time: is there MQTT at this path?",                        \
      "correct the path of the url (often /mqtt, /ws or /): no MQTT answers there")                \
    X(NO_MQTT_AT_PATH, "malformed_packet", OTHER, PROTOCOL,                                        \
      "no MQTT at this path: the WebSocket carries something else",                                \
      "correct the path of the url (often /mqtt, /ws or /): what answers there is not MQTT")       \
    X(NO_MQTT_IN_FRAMES, "protocol_error", OTHER, PROTOCOL,                                        \
      "no MQTT at this path: the WebSocket carries something else",                                \
      "correct the path of the url (often /mqtt, /ws or /): what answers there is not MQTT")       \
    X(HTTP_NOT_MQTT, "malformed_packet", OTHER, PROTOCOL,                                          \
      "a web server answers on this port, not MQTT",                                               \
      "give the broker's port for MQTT (usually 1883, 8883 for mqtts), or ws:// with the path "    \
      "of its WebSocket")                                                                          \
    X(TLS_NOT_MQTT, "malformed_packet", OTHER, PROTOCOL,                                           \
      "the answer on this port is TLS, not plain MQTT", "use mqtts:// (or wss://) for this port")  \
    X(NOT_MQTT, "malformed_packet", OTHER, PROTOCOL, "what answers on this port is not MQTT",      \
      "check host, port and scheme (mqtt, mqtts, ws, wss): no MQTT answers there")

#define CLIENT_ERRORS_OF_THE_SESSION(X)                                                            \
    X(MALFORMED_PACKET, "malformed_packet", REFUSED, PROTOCOL, "malformed packet",                 \
      "check the broker's log and version: it sent what MQTT does not allow")                      \
    X(PROTOCOL_ERROR, "protocol_error", REFUSED, PROTOCOL, "protocol error",                       \
      "check the broker's log and version: it sent what MQTT does not allow")                      \
    X(ANSWER_UNFIT, "protocol_error", REFUSED, PROTOCOL,                                           \
      "the broker answered a SUBSCRIBE in a way that MQTT does not allow",                         \
      "check the broker's log and version: it sent what MQTT does not allow")                      \
    X(TOPIC_NAME_INVALID, "topic_name_invalid", REFUSED, PROTOCOL, "topic name invalid",           \
      "check the broker's log and version: it sent what MQTT does not allow")                      \
    X(TOPIC_ALIAS_INVALID, "topic_alias_invalid", REFUSED, PROTOCOL, "topic alias invalid",        \
      "check the broker's log and version: it sent what MQTT does not allow")                      \
    X(RECEIVE_MAXIMUM_EXCEEDED, "receive_maximum_exceeded", REFUSED, PROTOCOL,                     \
      "receive maximum exceeded", "raise the client's receive_maximum, or leave it out")           \
    X(PACKET_TOO_LARGE, "packet_too_large", REFUSED, PROTOCOL, "packet too large",                 \
      "raise max_packet_size of the client and max_packet_bytes of the node, or have smaller "     \
      "messages published")                                                                        \
    X(SUBSCRIBE_TIMEOUT, "subscribe_timeout", TIMEOUT, OTHER,                                      \
      "the broker did not acknowledge the subscriptions",                                          \
      "the broker does not acknowledge subscriptions: check its log")                              \
    X(SUBSCRIBE_FAILED, "subscribe_failed", OTHER, OTHER, "the subscriptions could not be sent",   \
      "subscribe to fewer or shorter filters")                                                     \
    X(UNSUBSCRIBE_ENDS_CONNECTION, "unsubscribe_failed", OTHER, OTHER,                             \
      "the broker ends the connection when a filter is unsubscribed",                              \
      "their messages still come: check the broker's log, or end the session by clean_start")      \
    X(UNSUBSCRIBE_REFUSED, "unsubscribe_failed", OTHER, OTHER,                                     \
      "the broker refuses to unsubscribe a filter",                                                \
      "its messages still come: let the broker permit it, or end the session by clean_start")      \
    X(UNSUBSCRIBE_TOO_LONG, "unsubscribe_failed", OTHER, OTHER,                                    \
      "longer than the largest packet that the broker accepts",                                    \
      "its messages still come: raise the broker's limit, or end the session by clean_start")      \
    X(CLOSED_BEFORE_SUBACK, "connection_lost", TCP, CLOSED,                                        \
      "the broker closed the connection before it acknowledged the subscriptions; perhaps it "     \
      "refuses one",                                                                               \
      "the broker closed on the subscription: check the filters against its access rules")         \
    X(SUBSCRIPTION_REFUSED, "subscription_refused", OTHER, OTHER, "unspecified error",             \
      "let the broker permit these filters to this user: brokers of MQTT 3.1.1 give no reason")    \
    X(SUBSCRIPTION_NOT_AUTHORIZED, "subscription_refused", OTHER, OTHER, "not authorized",         \
      "let the broker permit these filters to this user, or subscribe to others")                  \
    X(SUBSCRIPTION_INVALID, "subscription_refused", OTHER, OTHER, "topic filter invalid",          \
      "correct the filter: the broker does not accept it")                                         \
    X(SUBSCRIPTION_QOS, "subscription_refused", OTHER, OTHER,                                      \
      "the broker does not support this QoS", "ask for a QoS that the broker supports")            \
    X(SUBSCRIPTION_WILDCARD, "subscription_refused", OTHER, OTHER,                                 \
      "wildcard subscriptions are not supported",                                                  \
      "subscribe without + and #: the broker has no wildcards")                                    \
    X(SUBSCRIPTION_SHARED, "subscription_refused", OTHER, OTHER,                                   \
      "shared subscriptions are not supported",                                                    \
      "subscribe without $share/: the broker has no shared subscriptions")                         \
    X(SUBSCRIPTION_IDENTIFIER, "subscription_refused", OTHER, OTHER,                               \
      "subscription identifiers not supported", "leave identifier out of the subscriptions")       \
    X(SUBSCRIPTION_QUOTA, "subscription_refused", OTHER, OTHER, "quota exceeded",                  \
      "subscribe to fewer filters, or raise the broker's limit")                                   \
    X(SUBSCRIPTION_IMPLEMENTATION, "subscription_refused", OTHER, OTHER,                           \
      "implementation specific error", "check the broker's log")                                   \
    X(SUBSCRIPTION_UNKNOWN, "subscription_refused", OTHER, OTHER, "an unknown reason code",        \
      "check the broker's log")                                                                    \
    X(SUBSCRIPTION_IN_USE, "subscription_refused", OTHER, OTHER, "packet identifier in use",       \
      "nothing is wrong with the filter: it is to be asked for again")                             \
    X(SUBSCRIPTION_TOO_LONG, "subscription_refused", OTHER, OTHER,                                 \
      "longer than the largest packet that the broker accepts",                                    \
      "shorten the filter, or raise the broker's limit")                                           \
    X(SUBSCRIPTION_ENDS_CONNECTION, "subscription_refused", OTHER, OTHER,                          \
      "the broker ends the connection when it is asked for this filter",                           \
      "let the broker permit the filter to this user, or subscribe to another")                    \
    X(SUBSCRIPTION_SURPLUS, "subscription_refused", OTHER, OTHER,                                  \
      "the broker ends the connection at so many filters",                                         \
      "subscribe to fewer filters, or raise the broker's limit of subscriptions")                  \
    X(SUBSCRIPTION_PUT_OFF, "subscription_refused", OTHER, OTHER,                                  \
      "not asked for at present: the broker ended too many connections at other filters",          \
      "let the broker permit the filters to this user, or subscribe to others")                    \
    X(FILTERS_HALVED, "connection_lost", TCP, CLOSED,                                              \
      "the broker ended the connection when it was asked for several filters at once",             \
      "nothing: fewer are asked for at once, until the broker accepts them or one can be named")   \
    X(SESSION_LOST, "session_lost", OTHER, OTHER,                                                  \
      "the broker no longer had the session of this client: messages that came for it while it "   \
      "was not connected are lost",                                                                \
      "let the broker keep its sessions when it restarts, and session_expiry_s be long enough; "   \
      "search for another client with this client_id")                                             \
    X(MESSAGE_SKIPPED, "message_skipped", OTHER, OTHER,                                            \
      "a message that cannot be accepted was skipped: no sink received it",                        \
      "find the publisher; the broker should not have accepted it either")                         \
    X(MESSAGE_TOO_LARGE, "message_skipped", OTHER, OTHER,                                          \
      "a message above max_packet_bytes was skipped: no sink received it",                         \
      "raise the node's setting max_packet_bytes, or let the broker refuse messages so large")

#define CLIENT_ERRORS_OF_PUBLICATIONS(X)                                                           \
    X(PUBLICATION_REFUSED, "publication_refused", OTHER, OTHER,                                    \
      "the broker ended the connection at a publication",                                          \
      "compare topic, size, QoS and retain of what is published with what the broker permits")     \
    X(PUBLICATION_EXPIRED, "publication_expired", OTHER, OTHER,                                    \
      "the broker did not acknowledge a publication",                                              \
      "check the broker's log, or raise publish_resend_ms")                                        \
    X(SINK_FULL, "sink_full", OTHER, OTHER,                                                        \
      "the client's sink is full, so answers of the broker could not be read",                     \
      "find out why the sink accepts nothing: /readyz?verbose and the metrics of the sink")        \
    X(NOTHING_ACKNOWLEDGED, "nothing_acknowledged", OTHER, OTHER,                                  \
      "connection ended by us: the broker acknowledged none of as many publications as its "       \
      "receive maximum permits, so nothing more could be sent on it",                              \
      "find out why the broker sends no PUBACK or PUBREC, or let it announce a larger receive "    \
      "maximum")                                                                                   \
    X(PUBLICATION_UNSPECIFIED, "publication_refused", OTHER, OTHER, "unspecified error",           \
      "check the broker's log")                                                                    \
    X(PUBLICATION_IMPLEMENTATION, "publication_refused", OTHER, OTHER,                             \
      "implementation specific error", "check the broker's log")                                   \
    X(PUBLICATION_NOT_AUTHORIZED, "publication_refused", OTHER, OTHER, "not authorized",           \
      "let the broker permit this user to publish to the topic, or publish to another")            \
    X(PUBLICATION_TOPIC_INVALID, "publication_refused", OTHER, OTHER, "topic name invalid",        \
      "publish to a topic that the broker accepts")                                                \
    X(PUBLICATION_IN_USE, "publication_refused", OTHER, OTHER, "packet identifier in use",         \
      "nothing is wrong with the publication: publish it again")                                   \
    X(PUBLICATION_QUOTA, "publication_refused", OTHER, OTHER, "quota exceeded",                    \
      "publish less or more slowly, or raise the broker's limit")                                  \
    X(PUBLICATION_PAYLOAD_FORMAT, "publication_refused", OTHER, OTHER, "payload format invalid",   \
      "let payload_format_indicator fit the payload")                                              \
    X(PUBLICATION_UNKNOWN, "publication_refused", OTHER, OTHER, "an unknown reason code",          \
      "check the broker's log")

/* What a broker says itself: return codes of MQTT 3.1.1, reason codes of MQTT 5.0. */
#define CLIENT_ERRORS_OF_REASONS(X)                                                                   \
    X(SERVER_DISCONNECT, "server_disconnect", REFUSED, TOLD, "the broker closed the connection",      \
      "check the broker's log")                                                                       \
    X(MQTT_UNSPECIFIED, "unspecified_error", REFUSED, TOLD, "unspecified error",                      \
      "check the broker's log")                                                                       \
    X(MQTT_MALFORMED_PACKET, "malformed_packet", REFUSED, PROTOCOL,                                   \
      "the broker reports a malformed packet",                                                        \
      "check that this port speaks MQTT, and try the other protocol_version")                         \
    X(MQTT_PROTOCOL_ERROR, "protocol_error", REFUSED, PROTOCOL,                                       \
      "the broker reports a protocol error",                                                          \
      "check the broker's log, and try the other protocol_version")                                   \
    X(MQTT_IMPLEMENTATION_ERROR, "implementation_error", REFUSED, TOLD,                               \
      "implementation specific error", "check the broker's log")                                      \
    X(MQTT_VERSION, "unsupported_protocol_version", REFUSED, TOLD,                                    \
      "the broker does not speak this protocol version",                                              \
      "set protocol_version to the other of 4 (MQTT 3.1.1) and 5 (MQTT 5.0)")                         \
    X(MQTT_IDENTIFIER_REJECTED, "identifier_rejected", REFUSED, TOLD,                                 \
      "the broker rejects the client identifier",                                                     \
      "give another client_id: shorter, of letters and digits, or as the broker demands")             \
    X(MQTT_BAD_CREDENTIALS, "bad_credentials", REFUSED, TOLD, "bad user name or password",            \
      "correct username and password")                                                                \
    X(MQTT_NOT_AUTHORIZED, "not_authorized", REFUSED, TOLD, "not authorized",                         \
      "correct username and password, or let the broker permit this client identifier and user")      \
    X(MQTT_SERVER_UNAVAILABLE, "server_unavailable", REFUSED, TOLD, "the broker is not available",    \
      "check the broker's log and load; the client tries again automatically")                        \
    X(MQTT_SERVER_BUSY, "server_busy", REFUSED, TOLD, "the broker is busy",                           \
      "check the broker's load; the client tries again automatically")                                \
    X(MQTT_BANNED, "banned", REFUSED, TOLD, "banned by the broker",                                   \
      "ask the operator of the broker: it has banned this client")                                    \
    X(MQTT_SHUTTING_DOWN, "server_shutting_down", REFUSED, TOLD, "the broker is shutting down",       \
      "try again when the broker is back")                                                            \
    X(MQTT_AUTHENTICATION_METHOD, "bad_authentication_method", REFUSED, TOLD,                         \
      "bad authentication method",                                                                    \
      "the broker wants another way of authentication than user name and password")                   \
    X(MQTT_KEEP_ALIVE_TIMEOUT, "keep_alive_timeout", REFUSED, TOLD,                                   \
      "the broker received nothing within its keepalive time",                                        \
      "check the network between node and broker, or give a longer keepalive_s")                      \
    X(MQTT_TAKEN_OVER, "taken_over", REFUSED, TOLD,                                                   \
      "another connection uses this client identifier",                                               \
      "give this client or the other one another client_id")                                          \
    X(CONFLICT, "taken_over", REFUSED, TOLD,                                                          \
      "lost soon after each connect: another client seems to use its identifier",                     \
      "search the broker's log for another client with this client_id, and give one of them another") \
    X(MQTT_TOPIC_FILTER_INVALID, "topic_filter_invalid", REFUSED, TOLD, "topic filter invalid",       \
      "correct the filter: the broker does not accept it")                                            \
    X(MQTT_TOPIC_NAME_INVALID, "topic_name_invalid", REFUSED, TOLD,                                   \
      "the broker reports an invalid topic name",                                                     \
      "use topics that the broker accepts, also for the will")                                        \
    X(MQTT_PACKET_IDENTIFIER_IN_USE, "packet_identifier_in_use", REFUSED, TOLD,                       \
      "packet identifier in use", "check the broker's log")                                           \
    X(MQTT_RECEIVE_MAXIMUM_EXCEEDED, "receive_maximum_exceeded", REFUSED, TOLD,                       \
      "the broker reports that its receive maximum was exceeded", "check the broker's log")           \
    X(MQTT_TOPIC_ALIAS_INVALID, "topic_alias_invalid", REFUSED, TOLD,                                 \
      "the broker reports an invalid topic alias", "check the broker's log")                          \
    X(MQTT_PACKET_TOO_LARGE, "packet_too_large", REFUSED, TOLD,                                       \
      "the broker reports that a packet is too large",                                                \
      "make username, password, properties and publications smaller, or raise the broker's limit")    \
    X(MQTT_MESSAGE_RATE, "message_rate_too_high", REFUSED, TOLD, "message rate too high",             \
      "publish more slowly, or raise the broker's limit")                                             \
    X(MQTT_QUOTA, "quota_exceeded", REFUSED, TOLD, "quota exceeded",                                  \
      "the broker has too many clients or messages of this user: raise its limit")                    \
    X(MQTT_ADMINISTRATIVE, "administrative_action", REFUSED, TOLD,                                    \
      "closed by an administrator of the broker", "ask the operator of the broker")                   \
    X(MQTT_PAYLOAD_FORMAT, "payload_format_invalid", REFUSED, TOLD, "payload format invalid",         \
      "let payload_format_indicator fit the payload")                                                 \
    X(MQTT_RETAIN, "retain_not_supported", REFUSED, TOLD,                                             \
      "the broker does not support retained messages", "publish without retain, also the will")       \
    X(MQTT_QOS, "qos_not_supported", REFUSED, TOLD, "the broker does not support this QoS",           \
      "publish with a lower QoS, also the will")                                                      \
    X(MQTT_USE_ANOTHER_SERVER, "use_another_server", REFUSED, TOLD,                                   \
      "the broker names another server", "use the broker that this one names")                        \
    X(MQTT_SERVER_MOVED, "server_moved", REFUSED, TOLD, "the broker has moved",                       \
      "use the address to which the broker has moved")                                                \
    X(MQTT_SHARED, "shared_subscriptions_not_supported", REFUSED, TOLD,                               \
      "shared subscriptions are not supported",                                                       \
      "subscribe without $share/: the broker has no shared subscriptions")                            \
    X(MQTT_CONNECTION_RATE, "connection_rate_exceeded", REFUSED, TOLD, "connection rate exceeded",    \
      "try again later, and connect more slowly")                                                     \
    X(MQTT_MAXIMUM_CONNECT_TIME, "maximum_connect_time", REFUSED, TOLD,                               \
      "the maximum connect time is over",                                                             \
      "nothing is wrong: this broker ends each connection after a time")                              \
    X(MQTT_SUBSCRIPTION_IDENTIFIERS, "subscription_identifiers_not_supported", REFUSED, TOLD,         \
      "subscription identifiers not supported", "leave identifier out of the subscriptions")          \
    X(MQTT_WILDCARD, "wildcard_subscriptions_not_supported", REFUSED, TOLD,                           \
      "wildcard subscriptions are not supported",                                                     \
      "subscribe without + and #: the broker has no wildcards")                                       \
    X(MQTT_UNKNOWN, "unknown_reason", REFUSED, TOLD, "an unknown reason code",                        \
      "check the broker's log")

#define CLIENT_ERRORS(X)                                                                           \
    X(NONE, NULL, OTHER, OTHER, "", NULL)                                                          \
    CLIENT_ERRORS_OF_THE_NODE(X)                                                                   \
    CLIENT_ERRORS_OF_THE_NETWORK(X)                                                                \
    CLIENT_ERRORS_OF_THE_SESSION(X)                                                                \
    CLIENT_ERRORS_OF_PUBLICATIONS(X)                                                               \
    CLIENT_ERRORS_OF_TLS(X)                                                                        \
    CLIENT_ERRORS_OF_WEBSOCKET(X)                                                                  \
    CLIENT_ERRORS_OF_CONNECT(X)                                                                    \
    CLIENT_ERRORS_OF_REASONS(X)

#endif
