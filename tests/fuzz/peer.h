/* The layers of a fuzzer's peer over its socket: TLS with a fixed certificate, and WebSocket, in
 * any combination. Its output may be truncated, and invalid at each layer. */
#ifndef MQFLEET_TESTS_FUZZ_PEER_H
#define MQFLEET_TESTS_FUZZ_PEER_H

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buffer.h"

struct peer {
    int fd; /* -1: none */
    bool deaf, one_by_one;
    bool greeted, said_goodbye; /* by the client */
    SSL *tls;                   /* NULL: no TLS */
    bool has_websocket, upgraded;
    struct buffer request; /* HTTP, then frames that are not whole */
    struct buffer got;     /* MQTT */
};

static const char peer_identity[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgxYtP8BjJLla3QaGm\n"
    "KIbswyb7DpHALG/qtIdd38PFdpyhRANCAAT3Az7YDGa34TfNMv0e2KrXa9PTADuI\n"
    "CZDdsTiEY+23Dh9bFDQ5JJMaIxZaxqjYdOjTkZlgu6vI99twPLYx7wWG\n"
    "-----END PRIVATE KEY-----\n"
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBfzCCASWgAwIBAgIUVjaJqFy/8XMznNHGF08fVhQUJL4wCgYIKoZIzj0EAwIw\n"
    "FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDAwMzgxN1oYDzIxMjYxMTA2\n"
    "MDAzODE3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n"
    "PQMBBwNCAAT3Az7YDGa34TfNMv0e2KrXa9PTADuICZDdsTiEY+23Dh9bFDQ5JJMa\n"
    "IxZaxqjYdOjTkZlgu6vI99twPLYx7wWGo1MwUTAdBgNVHQ4EFgQUeCVqE5VdVKDd\n"
    "lfO0XUeh/24zEVQwHwYDVR0jBBgwFoAUeCVqE5VdVKDdlfO0XUeh/24zEVQwDwYD\n"
    "VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBOAtJSBPJF5h16sgQqAK+B\n"
    "RuafBKzIMG7HiFFwns+LtwIhANcp3h3jvaeo6ZY03wBmjke6+WyrWPnRT0Y7eAEy\n"
    "eM0O\n"
    "-----END CERTIFICATE-----\n";

static SSL_CTX *peer_tls_context(void) {
    static SSL_CTX *context;
    if (!context) {
        BIO *bio = BIO_new_mem_buf(peer_identity, -1);
        EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
        X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        context = SSL_CTX_new(TLS_server_method());
        int right = SSL_CTX_use_certificate(context, certificate) == 1 &&
                    SSL_CTX_use_PrivateKey(context, key) == 1;
        assert(right);
        SSL_CTX_set_mode(context,
                         SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        EVP_PKEY_free(key);
        X509_free(certificate);
        BIO_free(bio);
    }
    return context;
}

static void peer_take(struct peer *peer, int fd, bool tls, bool old_tls, bool websocket) {
    *peer = (struct peer){.fd = fd, .has_websocket = websocket};
    if (tls) {
        peer->tls = SSL_new(peer_tls_context());
        SSL_set_fd(peer->tls, fd);
        SSL_set_max_proto_version(peer->tls, old_tls ? TLS1_2_VERSION : 0);
        SSL_set_accept_state(peer->tls);
    }
}

static void peer_hang_up(struct peer *peer) {
    SSL_free(peer->tls);
    if (peer->fd >= 0) {
        close(peer->fd);
    }
    buffer_fini(&peer->request);
    buffer_fini(&peer->got);
    *peer = (struct peer){.fd = -1};
}

/* ---- below WebSocket ---- */

/* If it does not fit, the rest is missing. */
static void peer_transmit(struct peer *peer, const void *data, size_t len, bool below_tls) {
    if (peer->fd < 0 || len == 0) {
        return;
    }
    if (peer->tls && !below_tls) {
        size_t done;
        (void)SSL_write_ex(peer->tls, data, len, &done);
    } else {
        ssize_t done = send(peer->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)done;
    }
}

static size_t peer_receive(struct peer *peer, uint8_t *data, size_t size) {
    size_t n = 0;
    if (peer->tls) {
        return SSL_read_ex(peer->tls, data, size, &n) == 1 ? n : 0;
    }
    ssize_t received = recv(peer->fd, data, size, MSG_DONTWAIT);
    return received > 0 ? (size_t)received : 0;
}

/* ---- WebSocket ---- */

static size_t peer_frame_header(uint8_t *header, uint8_t first, size_t len) {
    header[0] = first;
    if (len < 126) {
        header[1] = (uint8_t)len;
        return 2;
    }
    header[1] = len <= UINT16_MAX ? 126 : 127;
    size_t bytes = len <= UINT16_MAX ? 2 : 8;
    for (size_t i = 0; i < bytes; i++) {
        header[2 + i] = (uint8_t)((uint64_t)len >> 8 * (bytes - 1 - i));
    }
    return 2 + bytes;
}

static void peer_answer_upgrade(struct peer *peer) {
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    static const char field[] = "Sec-WebSocket-Key: ";
    char text[128], answer[256];
    uint8_t digest[EVP_MAX_MD_SIZE], accept[64];
    unsigned digest_len;
    const char *key = strstr(peer->request.data, field);
    assert(key);
    snprintf(text, sizeof(text), "%.24s%s", key + strlen(field), magic);
    EVP_Digest(text, strlen(text), digest, &digest_len, EVP_sha1(), NULL);
    EVP_EncodeBlock(accept, digest, (int)digest_len);
    int len = snprintf(answer, sizeof(answer),
                       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
                       "Sec-WebSocket-Protocol: mqtt\r\n\r\n",
                       (const char *)accept);
    peer_transmit(peer, answer, (size_t)len, false);
    peer->upgraded = true;
}

/* A whole frame of a client at `data`: its length; 0: not yet. Masked, whole in itself, and data or
 * control. */
static size_t peer_take_frame(struct peer *peer, uint8_t *data, size_t len) {
    size_t header_len = 2, payload_len = len >= 2 ? data[1] & 0x7F : 0;
    if (payload_len >= 126) {
        size_t bytes = payload_len == 126 ? 2 : 8;
        header_len += bytes;
        payload_len = 0;
        for (size_t i = 2; i < header_len && i < len; i++) {
            payload_len = payload_len << 8 | data[i];
        }
    }
    if (len < header_len + 4 || len < header_len + 4 + payload_len) {
        return 0;
    }
    uint8_t opcode = data[0] & 0x0F;
    assert((data[0] & 0xF0) == 0x80 && (data[1] & 0x80) != 0);
    assert(opcode == 2 || opcode == 8 || opcode == 10);
    uint8_t *payload = data + header_len + 4;
    for (size_t i = 0; i < payload_len; i++) {
        payload[i] ^= data[header_len + i % 4];
    }
    if (opcode == 2) {
        buffer_append(&peer->got, payload, payload_len);
    }
    return header_len + 4 + payload_len;
}

static void peer_take_frames(struct peer *peer) {
    struct buffer *in = &peer->request;
    size_t at = 0, used;
    if (!peer->upgraded) {
        buffer_append(in, "", 1);
        char *end = strstr(in->data, "\r\n\r\n");
        in->len--;
        if (!end) {
            return;
        }
        peer_answer_upgrade(peer);
        at = (size_t)(end + 4 - in->data);
    }
    while ((used = peer_take_frame(peer, (uint8_t *)in->data + at, in->len - at)) > 0) {
        at += used;
    }
    memmove(in->data, in->data + at, in->len - at);
    in->len -= at;
}

/* ---- MQTT ---- */

/* Everything that is there, into `got`. */
static void peer_hear(struct peer *peer) {
    static uint8_t bytes[1 << 16];
    size_t n;
    while (peer->fd >= 0 && (n = peer_receive(peer, bytes, sizeof(bytes))) > 0) {
        buffer_append(peer->has_websocket ? &peer->request : &peer->got, bytes, n);
        if (peer->has_websocket) {
            peer_take_frames(peer);
        }
    }
}

/* One frame of that first byte, or the bytes as they are. */
static void peer_say_frame(struct peer *peer, uint8_t first, const void *data, size_t len) {
    uint8_t header[10];
    if (peer->has_websocket && peer->upgraded) {
        peer_transmit(peer, header, peer_frame_header(header, first, len), false);
    }
    peer_transmit(peer, data, len, false);
}

#endif
