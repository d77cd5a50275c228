/* The rows of mqtt/client_error.h, the only file that includes this: symbol, code, metric of a
 * failed connect, metric of a loss, text, advice. If only the code of an error is known, the first
 * row with that code is used: the most general one. */
#ifndef MQFLEET_MQTT_CLIENT_ERROR_TABLE_H
#define MQFLEET_MQTT_CLIENT_ERROR_TABLE_H

#define CLIENT_ERRORS_OF_THE_NODE(X)                                                               \
    X(OUT_OF_MEMORY, "out_of_memory", OTHER, OTHER, "out of memory",                               \
      "give the node more memory, or lower node_info.size")                                        \
    X(OUT_OF_DESCRIPTORS, "out_of_descriptors", OTHER, OTHER,                                      \
      "no file descriptor is left for a connection: raise the limit of open files",                \
      "raise the node's limit of open files")                                                      \
    X(OUT_OF_PORTS, "out_of_ports", OTHER, OTHER,                                                  \
      "no local port is left for a connection to this broker: configure more source addresses",    \
      "configure more source_addresses on the node")                                               \
    X(SOURCE_ADDRESS_UNUSABLE, "source_address_unusable", OTHER, OTHER,                            \
      "the local address (setting source_addresses) cannot be used",                               \
      "correct the node's setting source_addresses")                                               \
    X(BUFFERS_FULL, "buffers_full", OTHER, OTHER,                                                  \
      "the node's buffers are full (setting buffer_bytes)",                                        \
      "raise the node's setting buffer_bytes, or lower node_info.size")                            \
    X(ENGINE_FAILED, "engine_failed", OTHER, OTHER, "the engine could not open a connection",      \
      "check the node's log")                                                                      \
    X(BAD_CONFIGURATION, "bad_configuration", OTHER, OTHER,                                        \
      "the configuration cannot be used to connect", "correct the client's configuration")         \
    X(BAD_CONFIG, "bad_config", OTHER, OTHER, "the stored configuration cannot be read",           \
      "correct the client's configuration, or store it again")                                     \
    X(SECRET_UNAVAILABLE, "secret_unavailable", OTHER, OTHER, "a secret cannot be read here",      \
      "make the file or variable that the configuration names readable on this node")              \
    X(SECRET_UNREADABLE, "secret_unreadable", OTHER, OTHER, "a secret cannot be decrypted here",   \
      "add the key with which the secret was encrypted to the node's secrets.key_file")            \
    X(SINK_MISSING, "sink_missing", OTHER, OTHER, "the node does not have the client's sink",      \
      "configure the sink on this node, or choose another one for the client")                     \
    X(SINK_UNAVAILABLE, "sink_unavailable", OTHER, SINK, "the sink accepts no messages",           \
      "check the sink's error in the status of the node")                                          \
    X(MESSAGE_NOT_ACCEPTED, "message_not_accepted", OTHER, SINK,                                   \
      "a message could not be passed to the sink",                                                 \
      "check the sink's error in the status of the node")                                          \
    X(IDENTITY_TAKEN, "identity_taken", OTHER, OTHER,                                              \
      "another client has the same broker and client_id",                                          \
      "change the client_id of one of the two clients")                                            \
    X(OWNER_UNREACHABLE, "owner_unreachable", OTHER, OTHER,                                        \
      "the node that owns the client does not answer this node",                                   \
      "check the network between the nodes, and node_info.host and port of that node")             \
    X(CLOSED_BY_US, "closed_by_us", OTHER, OTHER, "closed by this node", NULL)

#define CLIENT_ERRORS_OF_THE_NETWORK(X)                                                            \
    X(BROKER_DENIED, "broker_denied", DENIED, OTHER, "the node's rules deny this broker",          \
      "use a broker that the node's settings broker_allow and broker_deny permit, or change "      \
      "them")                                                                                      \
    X(DNS_FAILED, "dns_failed", DNS, OTHER, "the name server did not answer",                      \
      "check that the node can reach its name servers (/etc/resolv.conf), or use an address")      \
    X(DNS_TIMEOUT, "dns_failed", DNS, OTHER, "DNS look-up timed out",                              \
      "check that the node can reach its name servers (/etc/resolv.conf), or use an address")      \
    X(DNS_BUSY, "dns_failed", DNS, OTHER, "too many names are waiting for DNS",                    \
      "check that the node's name servers answer quickly, or raise resolver_threads")              \
    X(DNS_NAME_UNKNOWN, "dns_failed", DNS, OTHER, "no such host name",                             \
      "check the spelling of the host in broker or url, and that this node's DNS resolves it")     \
    X(DNS_NO_ADDRESS, "dns_failed", DNS, OTHER, "the name has no address",                         \
      "add an A or AAAA record for the host, or use an address")                                   \
    X(CONNECT_TIMEOUT, "connect_timeout", TIMEOUT, OTHER,                                          \
      "the broker did not accept the connection in time",                                          \
      "check address, port and scheme (mqtt, mqtts, ws, wss), and the broker's log")               \
    X(TCP_TIMEOUT, "connect_timeout", TIMEOUT, OTHER, "TCP connection timed out",                  \
      "check the address, and that no firewall between node and broker drops the packets")         \
    X(CONNECTION_REFUSED, "connection_refused", TCP, OTHER, "Connection refused",                  \
      "check host and port (usually 1883 for mqtt, 8883 for mqtts), and that the broker runs")     \
    X(NETWORK_UNREACHABLE, "connection_refused", TCP, OTHER, "the broker cannot be reached",       \
      "check the host, and the routes and firewalls between this node and the broker")             \
    X(CONNECTION_LOST, "connection_lost", TCP, CLOSED, "the connection to the broker was lost",    \
      "check the broker's log, also for another client with this client_id: no reason came")       \
    X(CLOSED_AT_AN_AGE, "connection_lost", TCP, CLOSED,                                            \
      "the broker ends connections after a fixed time, including those of other clients",          \
      "check the broker's configuration for a time limit, such as the lifetime of a token")        \
    X(KEEPALIVE_TIMEOUT, "keepalive_timeout", OTHER, KEEPALIVE,                                    \
      "the broker did not answer PINGREQ",                                                         \
      "check the network between node and broker, and the load of the broker")

#define CLIENT_ERRORS_OF_TLS(X)                                                                    \
    X(TLS_FAILED, "tls_failed", TLS, OTHER, "TLS handshake failed",                                \
      "check that the fields of tls match what the broker expects")                                \
    X(TLS_TIMEOUT, "connect_timeout", TIMEOUT, OTHER, "TLS handshake timed out",                   \
      "this port does not answer TLS: use mqtt://, or the broker's port for TLS, usually 8883")    \
    X(TLS_CLOSED_AT_ONCE, "connection_refused", TCP, OTHER,                                        \
      "the broker closed the connection at once: is the port for TLS, WebSocket or plain MQTT?",   \
      "this port does not seem to use TLS: use mqtt://, or the broker's port for TLS")             \
    X(TLS_CLOSED, "tls_failed", TLS, OTHER,                                                        \
      "the broker closed the connection during the TLS handshake: does it require a client "       \
      "certificate (tls.cert, tls.key)?",                                                          \
      "set tls.cert and tls.key if the broker requires a client certificate; otherwise check "     \
      "its log")                                                                                   \
    X(TLS_FILE_UNREADABLE, "tls_file_unreadable", TLS, OTHER,                                      \
      "tls.ca, tls.cert or tls.key is not a regular file that clients may use on this node",       \
      "move the file into a folder of the node's secrets.files_allow and make it readable by "     \
      "the node, or put its PEM text into the configuration")                                      \
    X(TLS_CA_INVALID, "tls_failed", TLS, OTHER, "tls.ca contains no readable PEM certificates",    \
      "correct tls.ca: it must be PEM certificates, or the path of such a file on the node")       \
    X(TLS_CERT_INVALID, "tls_failed", TLS, OTHER, "tls.cert contains no usable PEM certificate",   \
      "correct tls.cert: it must be a PEM certificate, or the path of such a file on the node")    \
    X(TLS_CERT_TOO_WEAK, "tls_failed", TLS, OTHER,                                                 \
      "the key or the signature of tls.cert is too weak",                                          \
      "use a stronger tls.cert (RSA 2048 or ECDSA, SHA-256), or lower tls.security_level")         \
    X(TLS_KEY_INVALID, "tls_failed", TLS, OTHER, "tls.key contains no readable PEM private key",   \
      "correct tls.key: it must be a PEM key, or the path of such a file on the node")             \
    X(TLS_KEY_MISMATCH, "tls_failed", TLS, OTHER, "tls.key does not match tls.cert",               \
      "use a tls.cert and a tls.key that belong together")                                         \
    X(TLS_KEY_ENCRYPTED, "tls_failed", TLS, OTHER, "tls.key is protected by a passphrase",         \
      "set tls.key_password, or use a tls.key without a passphrase (openssl pkey -in KEY -out "    \
      "PLAIN)")                                                                                    \
    X(TLS_KEY_PASSWORD, "tls_failed", TLS, OTHER, "tls.key_password does not decrypt tls.key",     \
      "correct tls.key_password")                                                                  \
    X(TLS_NOT_SPOKEN, "tls_failed", TLS, OTHER,                                                    \
      "the broker does not use TLS on this port: is it a port for plain MQTT or WebSocket?",       \
      "check host and port: TLS usually uses 8883; for a port for plain MQTT or WebSocket, use "   \
      "mqtt:// or ws://")                                                                          \
    X(TLS_VERSION, "tls_failed", TLS, OTHER,                                                       \
      "the broker supports no TLS version that tls.min_version permits (default: 1.2 and later)",  \
      "enable a later TLS version on the broker, or lower tls.min_version (below 1.2 with "        \
      "tls.security_level 0)")                                                                     \
    X(TLS_TOO_WEAK, "tls_failed", TLS, OTHER,                                                      \
      "the keys or ciphers that the broker offers for TLS are too weak",                           \
      "enable stronger keys and ciphers on the broker, or permit these with a lower "              \
      "tls.security_level (and tls.min_version)")                                                  \
    X(TLS_NOTHING_IN_COMMON, "tls_failed", TLS, OTHER,                                             \
      "the broker refused the handshake: it has no cipher in common, or does not accept "          \
      "tls.cert",                                                                                  \
      "check that a CA that the broker trusts issued tls.cert; for an old broker, lower "          \
      "tls.security_level")                                                                        \
    X(TLS_BROKER_TROUBLE, "tls_failed", TLS, OTHER,                                                \
      "the broker reports an internal error in the TLS handshake", "check the broker's log")       \
    X(TLS_ALPN_WANTED, "tls_failed", TLS, OTHER,                                                   \
      "the broker requires a protocol name (ALPN), and tls.alpn is not set",                       \
      "set tls.alpn to the name that the broker expects, such as mqtt (AWS IoT: x-amzn-mqtt-ca)")  \
    X(TLS_CLOSED_ALPN, "tls_failed", TLS, OTHER,                                                   \
      "the broker closed the connection during the TLS handshake",                                 \
      "on port 443 brokers often require tls.alpn, such as mqtt (AWS IoT: x-amzn-mqtt-ca)")        \
    X(TLS_HANDSHAKE_REFUSED, "tls_failed", TLS, OTHER,                                             \
      "the broker refused the handshake: it requires a client certificate (tls.cert, tls.key), "   \
      "or has no cipher in common",                                                                \
      "set tls.cert and tls.key if the broker requires a client certificate; for an old "          \
      "broker, lower tls.security_level")                                                          \
    X(TLS_CLIENT_CERTIFICATE_WANTED, "tls_failed", TLS, OTHER,                                     \
      "the broker requires a client certificate: tls.cert and tls.key",                            \
      "set tls.cert and tls.key: the broker requires a client certificate")                        \
    X(TLS_CLIENT_CERTIFICATE_REFUSED, "tls_failed", TLS, OTHER,                                    \
      "the broker does not accept tls.cert",                                                       \
      "use a tls.cert, with its tls.key, that a CA trusted by the broker has issued and that "     \
      "is valid")                                                                                  \
    X(TLS_SERVER_NAME_UNKNOWN, "tls_failed", TLS, OTHER,                                           \
      "the broker does not know the requested host name: check tls.server_name",                   \
      "set tls.server_name to a host name that the broker knows")                                  \
    X(TLS_ALPN_REFUSED, "tls_failed", TLS, OTHER,                                                  \
      "the broker knows none of the names in tls.alpn",                                            \
      "set tls.alpn to a name that the broker knows, such as mqtt")                                \
    X(TLS_CERTIFICATE_REFUSED, "tls_failed", TLS, OTHER,                                           \
      "the broker's certificate was not accepted",                                                 \
      "check the broker's certificate, and that tls.ca matches it")                                \
    X(TLS_CERTIFICATE_EXPIRED, "tls_failed", TLS, OTHER,                                           \
      "the broker's certificate was not accepted: it, or a certificate above it in the chain, "    \
      "has expired",                                                                               \
      "renew the certificate of the broker")                                                       \
    X(TLS_CERTIFICATE_NOT_YET_VALID, "tls_failed", TLS, OTHER,                                     \
      "the broker's certificate was not accepted: it is not valid yet: are the clocks correct?",   \
      "correct the clocks of node and broker")                                                     \
    X(TLS_CERTIFICATE_SELF_SIGNED, "tls_failed", TLS, OTHER,                                       \
      "the broker's certificate was not accepted: it is self-signed and not the one in tls.ca",    \
      "put the broker's own certificate into tls.ca")                                              \
    X(TLS_CERTIFICATE_UNKNOWN_AUTHORITY, "tls_failed", TLS, OTHER,                                 \
      "the broker's certificate was not accepted: it was issued by an unknown CA: put that "       \
      "CA's certificate into tls.ca",                                                              \
      "put the certificate of the CA that issued the broker's certificate into tls.ca. If its "    \
      "root certificate is already there, configure the broker to send the intermediate "          \
      "certificate as well, or put that into tls.ca too")                                          \
    X(TLS_CERTIFICATE_FORGED, "tls_failed", TLS, OTHER,                                            \
      "the broker's certificate was not accepted: it was not signed by the CA in tls.ca, which "   \
      "has the same name as its issuer",                                                           \
      "put the current certificate of the CA that issued the broker's certificate into tls.ca")    \
    X(TLS_CERTIFICATE_TOO_WEAK, "tls_failed", TLS, OTHER,                                          \
      "the broker's certificate was not accepted: its key or signature is too weak",               \
      "install a stronger certificate on the broker (RSA 2048 or ECDSA, SHA-256), or permit "      \
      "this one with a lower tls.security_level")                                                  \
    X(TLS_CERTIFICATE_PURPOSE, "tls_failed", TLS, OTHER,                                           \
      "the broker's certificate was not accepted: it, or a certificate above it in the chain, "    \
      "is not meant for this purpose",                                                             \
      "issue the broker's certificate for servers (extendedKeyUsage serverAuth), with a CA "       \
      "certificate (basicConstraints CA:TRUE)")                                                    \
    X(TLS_NAME_MISMATCH, "tls_failed", TLS, OTHER,                                                 \
      "the broker's certificate is for another name: check the URL and tls.server_name",           \
      "connect with the name in the broker's certificate, or set tls.server_name to that name")    \
    X(TLS_NO_NAME, "tls_failed", TLS, OTHER,                                                       \
      "the broker's certificate has no subject alternative name",                                  \
      "reissue the broker's certificate with a subjectAltName (DNS:name or IP:address), or set "   \
      "tls.server_name to its common name")

#define CLIENT_ERRORS_OF_WEBSOCKET(X)                                                              \
    X(WEBSOCKET_REFUSED, "websocket_refused", OTHER, OTHER, "the server did not open a WebSocket", \
      "check port and path of the url; the broker must offer MQTT over WebSocket there")           \
    X(WEBSOCKET_TIMEOUT, "connect_timeout", TIMEOUT, OTHER, "WebSocket handshake timed out",       \
      "this port does not answer HTTP: use mqtt://, or the broker's port for WebSocket")           \
    X(WEBSOCKET_CLOSED, "websocket_refused", OTHER, OTHER,                                         \
      "the broker closed the connection during the WebSocket handshake: is there a WebSocket "     \
      "at this port and path?",                                                                    \
      "check port and path of the url: the broker must offer MQTT over WebSocket there. The "      \
      "ports for mqtt:// and mqtts:// differ from it")                                             \
    X(WEBSOCKET_WEB_PAGE, "websocket_refused", OTHER, OTHER,                                       \
      "the server answered with a web page instead of a WebSocket",                                \
      "correct port and path of the url: many brokers serve WebSocket at /mqtt or /ws")            \
    X(WEBSOCKET_REDIRECTED, "websocket_refused", OTHER, OTHER,                                     \
      "the server redirects to another URL; redirects are not followed",                           \
      "set url to the address to which it redirects")                                              \
    X(WEBSOCKET_CREDENTIALS, "websocket_refused", OTHER, OTHER,                                    \
      "the server requires credentials before it opens the WebSocket",                             \
      "set the credentials in websocket.headers (Authorization) or in the query of the url")       \
    X(WEBSOCKET_FORBIDDEN, "websocket_refused", OTHER, OTHER, "access to this path is forbidden",  \
      "correct the path of the url, or permit this access on the server")                          \
    X(WEBSOCKET_PROXY, "websocket_refused", OTHER, OTHER,                                          \
      "a proxy before the broker requires credentials",                                            \
      "make the broker reachable for the node without the proxy")                                  \
    X(WEBSOCKET_SERVER_TROUBLE, "websocket_refused", OTHER, OTHER,                                 \
      "the server, or a proxy before the broker, is not working",                                  \
      "check the log of the server or proxy: the broker behind it may be down")                    \
    X(WEBSOCKET_SUBPROTOCOL, "websocket_refused", OTHER, OTHER,                                    \
      "the WebSocket server chose a sub-protocol other than mqtt",                                 \
      "correct the path of the url: the server there does not support MQTT")                       \
    X(WEBSOCKET_NOT_FOUND, "websocket_refused", OTHER, OTHER,                                      \
      "the server has nothing at this path",                                                       \
      "correct the path of the url; brokers often use /mqtt or /")                                 \
    X(WEBSOCKET_NOT_HTTP, "websocket_refused", OTHER, OTHER,                                       \
      "the response to the WebSocket handshake is not HTTP: is this a port for WebSocket?",        \
      "check host and port: the broker must offer MQTT over WebSocket there; for a port for "      \
      "plain MQTT, use mqtt://")                                                                   \
    X(WEBSOCKET_OVER_TLS, "websocket_refused", OTHER, OTHER,                                       \
      "the response to the WebSocket handshake is TLS: is this a port for wss?",                   \
      "use wss:// for this port")                                                                  \
    X(WEBSOCKET_FRAMES, "protocol_error", OTHER, PROTOCOL, "the WebSocket frames are invalid",     \
      "check which server answers at port and path of the url: its WebSocket frames are invalid")

#define CLIENT_ERRORS_OF_CONNECT(X)                                                                \
    X(CONNACK_TIMEOUT, "connect_timeout", TIMEOUT, OTHER, "no CONNACK from the broker in time",    \
      "the port is open but does not answer MQTT: check port and scheme (mqtt, mqtts, ws, wss)")   \
    X(CLOSED_BEFORE_CONNACK, "connection_refused", TCP, OTHER,                                     \
      "the broker closed the connection before CONNACK: is this the port for TLS, WebSocket or "   \
      "plain MQTT?",                                                                               \
      "check that port and scheme belong together (mqtt, mqtts, ws, wss), and the broker's "       \
      "log: some brokers close the connection of an unwanted client without a reason")             \
    X(CLOSED_BEFORE_CONNACK_V5, "connection_refused", TCP, OTHER,                                  \
      "the broker closed the connection before CONNACK: does it speak MQTT 5 on this port?",       \
      "set protocol_version to 4: many brokers close MQTT 5 connections without a reason; "        \
      "otherwise check that port and scheme belong together (mqtt, mqtts, ws, wss), and the "      \
      "broker's log")                                                                              \
    X(CLOSED_BEFORE_CONNACK_TLS, "connection_refused", TCP, OTHER,                                 \
      "the broker closed the connection after the TLS handshake, before CONNACK",                  \
      "check the broker's log: some brokers close the connection of an unwanted client "           \
      "(client_id, username, certificate) without a reason; a port shared with other protocols "   \
      "may require tls.alpn")                                                                      \
    X(CLOSED_BEFORE_CONNACK_TLS_PORT, "connection_refused", TCP, OTHER,                            \
      "the broker closed the connection before CONNACK: is this its port for TLS?",                \
      "use mqtts:// for this port, which usually uses TLS; otherwise check the broker's log, "     \
      "and try protocol_version 4")                                                                \
    X(CLOSED_BEFORE_CONNACK_ALPN, "connection_refused", TCP, OTHER,                                \
      "the broker closed the connection after the TLS handshake, before CONNACK",                  \
      "set tls.alpn: on port 443 brokers expect a name, such as mqtt (AWS IoT: "                   \
      "x-amzn-mqtt-ca); otherwise try protocol_version 4, and check the broker's log")             \
    X(CLOSED_BEFORE_CONNACK_PATH, "connection_refused", TCP, OTHER,                                \
      "the server closed the WebSocket before CONNACK: is there MQTT at this path?",               \
      "correct the path of the url (often /mqtt, /ws or /), or try the other protocol_version")    \
    X(CLOSED_IN_CONNACK, "protocol_error", OTHER, PROTOCOL,                                        \
      "the broker closed the connection in the middle of its first packet",                        \
      "check that this port is for MQTT, and try the other protocol_version")                      \
    X(CONNACK_TIMEOUT_PATH, "connect_timeout", TIMEOUT, OTHER,                                     \
      "no CONNACK over the WebSocket in time: is there MQTT at this path?",                        \
      "correct the path of the url (often /mqtt, /ws or /): no MQTT answers there")                \
    X(NO_MQTT_AT_PATH, "malformed_packet", OTHER, PROTOCOL,                                        \
      "no MQTT at this path: the WebSocket carries something else",                                \
      "correct the path of the url (often /mqtt, /ws or /): the server there does not answer "     \
      "MQTT")                                                                                      \
    X(NO_MQTT_IN_FRAMES, "protocol_error", OTHER, PROTOCOL,                                        \
      "no MQTT at this path: the WebSocket carries something else",                                \
      "correct the path of the url (often /mqtt, /ws or /): the server there does not answer "     \
      "MQTT")                                                                                      \
    X(HTTP_NOT_MQTT, "malformed_packet", OTHER, PROTOCOL,                                          \
      "a web server answers on this port, not MQTT",                                               \
      "use the broker's port for MQTT (usually 1883, 8883 for mqtts), or ws:// with the path "     \
      "of its WebSocket")                                                                          \
    X(TLS_NOT_MQTT, "malformed_packet", OTHER, PROTOCOL,                                           \
      "the server on this port answers TLS, not plain MQTT",                                       \
      "use mqtts:// (or wss://) for this port")                                                    \
    X(NOT_MQTT, "malformed_packet", OTHER, PROTOCOL,                                               \
      "the server on this port does not answer MQTT",                                              \
      "check host, port and scheme (mqtt, mqtts, ws, wss): no MQTT answers there")

#define CLIENT_ERRORS_OF_THE_SESSION(X)                                                            \
    X(MALFORMED_PACKET, "malformed_packet", REFUSED, PROTOCOL, "malformed packet",                 \
      "check the broker's log and version: it violated the MQTT specification")                    \
    X(PROTOCOL_ERROR, "protocol_error", REFUSED, PROTOCOL, "protocol error",                       \
      "check the broker's log and version: it violated the MQTT specification")                    \
    X(ANSWER_UNFIT, "protocol_error", REFUSED, PROTOCOL,                                           \
      "the broker answered a SUBSCRIBE in a way that MQTT does not allow",                         \
      "check the broker's log and version: it violated the MQTT specification")                    \
    X(TOPIC_NAME_INVALID, "topic_name_invalid", REFUSED, PROTOCOL, "topic name invalid",           \
      "check the broker's log and version: it violated the MQTT specification")                    \
    X(TOPIC_ALIAS_INVALID, "topic_alias_invalid", REFUSED, PROTOCOL, "topic alias invalid",        \
      "check the broker's log and version: it violated the MQTT specification")                    \
    X(RECEIVE_MAXIMUM_EXCEEDED, "receive_maximum_exceeded", REFUSED, PROTOCOL,                     \
      "receive maximum exceeded", "raise the client's receive_maximum, or omit it")                \
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
      "their messages still arrive: check the broker's log, or end the session with clean_start")  \
    X(UNSUBSCRIBE_REFUSED, "unsubscribe_failed", OTHER, OTHER,                                     \
      "the broker refuses to unsubscribe a filter",                                                \
      "its messages still arrive: permit it on the broker, or end the session with clean_start")   \
    X(UNSUBSCRIBE_TOO_LONG, "unsubscribe_failed", OTHER, OTHER,                                    \
      "longer than the largest packet that the broker accepts",                                    \
      "its messages still arrive: raise the broker's limit, or end the session with clean_start")  \
    X(CLOSED_BEFORE_SUBACK, "connection_lost", TCP, CLOSED,                                        \
      "the broker closed the connection before it acknowledged the subscriptions; perhaps it "     \
      "refuses one",                                                                               \
      "the broker closed the connection at the subscription: check the filters against its "       \
      "access rules")                                                                              \
    X(SUBSCRIPTION_REFUSED, "subscription_refused", OTHER, OTHER, "unspecified error",             \
      "permit these filters for this user on the broker: MQTT 3.1.1 brokers give no reason")       \
    X(SUBSCRIPTION_NOT_AUTHORIZED, "subscription_refused", OTHER, OTHER, "not authorized",         \
      "permit these filters for this user on the broker, or subscribe to others")                  \
    X(SUBSCRIPTION_INVALID, "subscription_refused", OTHER, OTHER, "topic filter invalid",          \
      "correct the filter: the broker does not accept it")                                         \
    X(SUBSCRIPTION_QOS, "subscription_refused", OTHER, OTHER,                                      \
      "the broker does not support this QoS", "request a QoS that the broker supports")            \
    X(SUBSCRIPTION_WILDCARD, "subscription_refused", OTHER, OTHER,                                 \
      "wildcard subscriptions are not supported",                                                  \
      "subscribe without + and #: the broker does not support wildcards")                          \
    X(SUBSCRIPTION_SHARED, "subscription_refused", OTHER, OTHER,                                   \
      "shared subscriptions are not supported",                                                    \
      "subscribe without $share/: the broker does not support shared subscriptions")               \
    X(SUBSCRIPTION_IDENTIFIER, "subscription_refused", OTHER, OTHER,                               \
      "subscription identifiers not supported", "omit identifier from the subscriptions")          \
    X(SUBSCRIPTION_QUOTA, "subscription_refused", OTHER, OTHER, "quota exceeded",                  \
      "subscribe to fewer filters, or raise the broker's limit")                                   \
    X(SUBSCRIPTION_IMPLEMENTATION, "subscription_refused", OTHER, OTHER,                           \
      "implementation specific error", "check the broker's log")                                   \
    X(SUBSCRIPTION_UNKNOWN, "subscription_refused", OTHER, OTHER, "an unknown reason code",        \
      "check the broker's log")                                                                    \
    X(SUBSCRIPTION_IN_USE, "subscription_refused", OTHER, OTHER, "packet identifier in use",       \
      "nothing: the filter is valid and is requested again")                                       \
    X(SUBSCRIPTION_TOO_LONG, "subscription_refused", OTHER, OTHER,                                 \
      "longer than the largest packet that the broker accepts",                                    \
      "shorten the filter, or raise the broker's limit")                                           \
    X(SUBSCRIPTION_ENDS_CONNECTION, "subscription_refused", OTHER, OTHER,                          \
      "the broker ends the connection when this filter is requested",                              \
      "permit the filter for this user on the broker, or subscribe to another")                    \
    X(SUBSCRIPTION_SURPLUS, "subscription_refused", OTHER, OTHER,                                  \
      "the broker ends the connection when this many filters are requested",                       \
      "subscribe to fewer filters, or raise the broker's limit of subscriptions")                  \
    X(SUBSCRIPTION_PUT_OFF, "subscription_refused", OTHER, OTHER,                                  \
      "not requested at present: the broker ended too many connections because of other filters",  \
      "permit the filters for this user on the broker, or subscribe to others")                    \
    X(FILTERS_HALVED, "connection_lost", TCP, CLOSED,                                              \
      "the broker ended the connection when several filters were requested at once",               \
      "nothing: fewer are requested at once until the broker accepts them or one can be "          \
      "identified")                                                                                \
    X(SESSION_LOST, "session_lost", OTHER, OTHER,                                                  \
      "the broker no longer had the session of this client: messages that arrived while it was "   \
      "not connected are lost",                                                                    \
      "check that the broker keeps its sessions when it restarts, that session_expiry_s is "       \
      "long enough, and that no other client uses this client_id")                                 \
    X(SILENT, "silent", OTHER, OTHER, "no message for expect_message_within_s",                    \
      "check that devices publish, and that the filters and access rules match their topics")      \
    X(MESSAGE_SKIPPED, "message_skipped", OTHER, OTHER,                                            \
      "a message that cannot be accepted was skipped: no sink received it",                        \
      "find the publisher; the broker should not have accepted it either")                         \
    X(MESSAGE_TOO_LARGE, "message_skipped", OTHER, OTHER,                                          \
      "a message above max_packet_bytes was skipped: no sink received it",                         \
      "raise the node's setting max_packet_bytes, or let the broker refuse such messages")

#define CLIENT_ERRORS_OF_PUBLICATIONS(X)                                                           \
    X(PUBLICATION_REFUSED, "publication_refused", OTHER, OTHER,                                    \
      "the broker ended the connection at a publication",                                          \
      "check that the broker permits the topic, size, QoS and retain of the publication")          \
    X(PUBLICATION_EXPIRED, "publication_expired", OTHER, OTHER,                                    \
      "the broker did not acknowledge a publication",                                              \
      "check the broker's log, or raise publish_resend_ms")                                        \
    X(SINK_FULL, "sink_full", OTHER, OTHER,                                                        \
      "the client's sink is full, so the broker's answers could not be read",                      \
      "find out why the sink accepts no messages: see /readyz?verbose and the metrics of the "     \
      "sink")                                                                                      \
    X(NOTHING_ACKNOWLEDGED, "nothing_acknowledged", OTHER, OTHER,                                  \
      "connection closed by this node: the broker acknowledged no publications and its receive "   \
      "maximum was used up, so nothing more could be sent",                                        \
      "find out why the broker sends no PUBACK or PUBREC, or configure a larger receive "          \
      "maximum on it")                                                                             \
    X(PUBLICATION_UNSPECIFIED, "publication_refused", OTHER, OTHER, "unspecified error",           \
      "check the broker's log")                                                                    \
    X(PUBLICATION_IMPLEMENTATION, "publication_refused", OTHER, OTHER,                             \
      "implementation specific error", "check the broker's log")                                   \
    X(PUBLICATION_NOT_AUTHORIZED, "publication_refused", OTHER, OTHER, "not authorized",           \
      "permit this user to publish to the topic on the broker, or publish to another topic")       \
    X(PUBLICATION_TOPIC_INVALID, "publication_refused", OTHER, OTHER, "topic name invalid",        \
      "publish to a topic that the broker accepts")                                                \
    X(PUBLICATION_IN_USE, "publication_refused", OTHER, OTHER, "packet identifier in use",         \
      "publish again: the publication itself is valid")                                            \
    X(PUBLICATION_QUOTA, "publication_refused", OTHER, OTHER, "quota exceeded",                    \
      "publish less or more slowly, or raise the broker's limit")                                  \
    X(PUBLICATION_PAYLOAD_FORMAT, "publication_refused", OTHER, OTHER, "payload format invalid",   \
      "make payload_format_indicator match the payload")                                           \
    X(PUBLICATION_UNKNOWN, "publication_refused", OTHER, OTHER, "an unknown reason code",          \
      "check the broker's log")

/* Errors that the broker reports: return codes of MQTT 3.1.1, reason codes of MQTT 5.0. */
#define CLIENT_ERRORS_OF_REASONS(X)                                                                \
    X(SERVER_DISCONNECT, "server_disconnect", REFUSED, TOLD, "the broker closed the connection",   \
      "check the broker's log")                                                                    \
    X(MQTT_UNSPECIFIED, "unspecified_error", REFUSED, TOLD, "unspecified error",                   \
      "check the broker's log")                                                                    \
    X(MQTT_MALFORMED_PACKET, "malformed_packet", REFUSED, PROTOCOL,                                \
      "the broker reports a malformed packet",                                                     \
      "check that this port is for MQTT, and try the other protocol_version")                      \
    X(MQTT_PROTOCOL_ERROR, "protocol_error", REFUSED, PROTOCOL,                                    \
      "the broker reports a protocol error",                                                       \
      "check the broker's log, and try the other protocol_version")                                \
    X(MQTT_IMPLEMENTATION_ERROR, "implementation_error", REFUSED, TOLD,                            \
      "implementation specific error", "check the broker's log")                                   \
    X(MQTT_VERSION, "unsupported_protocol_version", REFUSED, TOLD,                                 \
      "the broker does not support this protocol version",                                         \
      "set protocol_version to the other value: 4 (MQTT 3.1.1) or 5 (MQTT 5.0)")                   \
    X(MQTT_IDENTIFIER_REJECTED, "identifier_rejected", REFUSED, TOLD,                              \
      "the broker rejects the client identifier",                                                  \
      "change the client_id: shorter, only letters and digits, or as the broker requires")         \
    X(MQTT_BAD_CREDENTIALS, "bad_credentials", REFUSED, TOLD, "bad user name or password",         \
      "correct username and password")                                                             \
    X(MQTT_NOT_AUTHORIZED, "not_authorized", REFUSED, TOLD, "not authorized",                      \
      "correct username and password, or permit this client identifier and user on the broker")    \
    X(MQTT_SERVER_UNAVAILABLE, "server_unavailable", REFUSED, TOLD, "the broker is not available", \
      "check the broker's log and load; the client tries again automatically")                     \
    X(MQTT_SERVER_BUSY, "server_busy", REFUSED, TOLD, "the broker is busy",                        \
      "check the broker's load; the client tries again automatically")                             \
    X(MQTT_BANNED, "banned", REFUSED, TOLD, "banned by the broker",                                \
      "contact the operator of the broker: it has banned this client")                             \
    X(MQTT_SHUTTING_DOWN, "server_shutting_down", REFUSED, TOLD, "the broker is shutting down",    \
      "try again when the broker is available again")                                              \
    X(MQTT_AUTHENTICATION_METHOD, "bad_authentication_method", REFUSED, TOLD,                      \
      "bad authentication method",                                                                 \
      "the broker requires an authentication method other than user name and password")            \
    X(MQTT_KEEP_ALIVE_TIMEOUT, "keep_alive_timeout", REFUSED, TOLD,                                \
      "the broker received nothing within its keepalive time",                                     \
      "check the network between node and broker, or raise keepalive_s")                           \
    X(MQTT_TAKEN_OVER, "taken_over", REFUSED, TOLD,                                                \
      "another connection uses this client identifier",                                            \
      "change the client_id of this client or of the other one")                                   \
    X(CONFLICT, "taken_over", REFUSED, TOLD,                                                       \
      "the connection is lost soon after each connect: another client seems to use the same "      \
      "identifier",                                                                                \
      "search the broker's log for another client with this client_id, and change the "            \
      "client_id of one of them")                                                                  \
    X(MQTT_TOPIC_FILTER_INVALID, "topic_filter_invalid", REFUSED, TOLD, "topic filter invalid",    \
      "correct the filter: the broker does not accept it")                                         \
    X(MQTT_TOPIC_NAME_INVALID, "topic_name_invalid", REFUSED, TOLD,                                \
      "the broker reports an invalid topic name",                                                  \
      "use topics that the broker accepts, including that of the will")                            \
    X(MQTT_PACKET_IDENTIFIER_IN_USE, "packet_identifier_in_use", REFUSED, TOLD,                    \
      "packet identifier in use", "check the broker's log")                                        \
    X(MQTT_RECEIVE_MAXIMUM_EXCEEDED, "receive_maximum_exceeded", REFUSED, TOLD,                    \
      "the broker reports that its receive maximum was exceeded", "check the broker's log")        \
    X(MQTT_TOPIC_ALIAS_INVALID, "topic_alias_invalid", REFUSED, TOLD,                              \
      "the broker reports an invalid topic alias", "check the broker's log")                       \
    X(MQTT_PACKET_TOO_LARGE, "packet_too_large", REFUSED, TOLD,                                    \
      "the broker reports that a packet is too large",                                             \
      "make username, password, properties and publications smaller, or raise the broker's "       \
      "limit")                                                                                     \
    X(MQTT_MESSAGE_RATE, "message_rate_too_high", REFUSED, TOLD, "message rate too high",          \
      "publish more slowly, or raise the broker's limit")                                          \
    X(MQTT_QUOTA, "quota_exceeded", REFUSED, TOLD, "quota exceeded",                               \
      "this user has too many clients or messages on the broker: raise the limit there")           \
    X(MQTT_ADMINISTRATIVE, "administrative_action", REFUSED, TOLD,                                 \
      "closed by an administrator of the broker", "contact the operator of the broker")            \
    X(MQTT_PAYLOAD_FORMAT, "payload_format_invalid", REFUSED, TOLD, "payload format invalid",      \
      "make payload_format_indicator match the payload")                                           \
    X(MQTT_RETAIN, "retain_not_supported", REFUSED, TOLD,                                          \
      "the broker does not support retained messages",                                             \
      "publish without retain, including the will")                                                \
    X(MQTT_QOS, "qos_not_supported", REFUSED, TOLD, "the broker does not support this QoS",        \
      "publish with a lower QoS, including the will")                                              \
    X(MQTT_USE_ANOTHER_SERVER, "use_another_server", REFUSED, TOLD,                                \
      "the broker refers to another server", "use the broker to which this one refers")            \
    X(MQTT_SERVER_MOVED, "server_moved", REFUSED, TOLD, "the broker has moved",                    \
      "use the address to which the broker has moved")                                             \
    X(MQTT_SHARED, "shared_subscriptions_not_supported", REFUSED, TOLD,                            \
      "shared subscriptions are not supported",                                                    \
      "subscribe without $share/: the broker does not support shared subscriptions")               \
    X(MQTT_CONNECTION_RATE, "connection_rate_exceeded", REFUSED, TOLD, "connection rate exceeded", \
      "try again later, and connect more slowly")                                                  \
    X(MQTT_MAXIMUM_CONNECT_TIME, "maximum_connect_time", REFUSED, TOLD,                            \
      "the maximum connection time has passed",                                                    \
      "nothing: this broker ends each connection after a fixed time")                              \
    X(MQTT_SUBSCRIPTION_IDENTIFIERS, "subscription_identifiers_not_supported", REFUSED, TOLD,      \
      "subscription identifiers not supported", "omit identifier from the subscriptions")          \
    X(MQTT_WILDCARD, "wildcard_subscriptions_not_supported", REFUSED, TOLD,                        \
      "wildcard subscriptions are not supported",                                                  \
      "subscribe without + and #: the broker does not support wildcards")                          \
    X(MQTT_UNKNOWN, "unknown_reason", REFUSED, TOLD, "an unknown reason code",                     \
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
