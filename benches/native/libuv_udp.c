/* A libuv UDP socket that sends every datagram that it gets to some ports of this machine. */

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* What libuv fills with one system call at most, 64 KiB each. */
enum { DATAGRAMS = 20, DATAGRAM_BYTES = 64 * 1024 };

struct bench_uv;
uv_loop_t *bench_uv_loop(struct bench_uv *uv);

struct bench_uv_forwarder {
  uv_udp_t udp;
  struct sockaddr_in *destinations;
  size_t count;
  char memory[DATAGRAMS * DATAGRAM_BYTES];
};

static struct sockaddr_in loopback(uint16_t port) {
  struct sockaddr_in address;
  uv_ip4_addr("127.0.0.1", port, &address);
  return address;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
  (void)suggested;
  struct bench_uv_forwarder *forwarder = handle->data;
  *buffer = uv_buf_init(forwarder->memory, sizeof forwarder->memory);
}

static void on_recv(uv_udp_t *udp, ssize_t bytes, const uv_buf_t *buffer,
                    const struct sockaddr *source, unsigned flags) {
  (void)flags;
  struct bench_uv_forwarder *forwarder = udp->data;
  /* Without a source, it is the end of a batch, or an error. */
  if (!source || bytes < 0) return;
  uv_buf_t packet = uv_buf_init(buffer->base, (unsigned)bytes);
  for (size_t n = 0; n < forwarder->count; n++) {
    /* What there is no room for is lost, as datagrams are. */
    uv_udp_try_send(udp, &packet, 1, (const struct sockaddr *)&forwarder->destinations[n]);
  }
}

/* On the loop's thread. It is closed with the loop, and to be freed after it. */
struct bench_uv_forwarder *bench_uv_forwarder_new(struct bench_uv *uv, const uint16_t *ports,
                                                  size_t count, uint16_t *port) {
  struct bench_uv_forwarder *forwarder = calloc(1, sizeof *forwarder);
  forwarder->count = count;
  forwarder->destinations = calloc(count, sizeof *forwarder->destinations);
  for (size_t n = 0; n < count; n++) forwarder->destinations[n] = loopback(ports[n]);
  uv_udp_init_ex(bench_uv_loop(uv), &forwarder->udp, AF_INET | UV_UDP_RECVMMSG);
  forwarder->udp.data = forwarder;
  struct sockaddr_in address = loopback(0);
  int length = sizeof address;
  if (uv_udp_bind(&forwarder->udp, (const struct sockaddr *)&address, 0) ||
      uv_udp_getsockname(&forwarder->udp, (struct sockaddr *)&address, &length) ||
      uv_udp_recv_start(&forwarder->udp, on_alloc, on_recv)) {
    /* Its memory belongs to the loop until that closes it. */
    return NULL;
  }
  *port = ntohs(address.sin_port);
  return forwarder;
}

void bench_uv_forwarder_free(struct bench_uv_forwarder *forwarder) {
  free(forwarder->destinations);
  free(forwarder);
}
