// libwebrtc's AsyncUDPSocket, which sends every datagram that it gets to some ports of this machine;
// with a C interface.

#include <cstdint>
#include <memory>
#include <vector>

#include "rtc_base/async_udp_socket.h"
#include "rtc_base/socket_server.h"
#include "rtc_base/thread.h"

namespace {

class Forwarder : public sigslot::has_slots<> {
 public:
  Forwarder(rtc::AsyncUDPSocket* socket, const uint16_t* ports, size_t count) : socket_(socket) {
    for (size_t n = 0; n < count; n++) destinations_.emplace_back(INADDR_LOOPBACK, ports[n]);
    socket_->SignalReadPacket.connect(this, &Forwarder::OnReadPacket);
  }

  uint16_t port() const { return socket_->GetLocalAddress().port(); }

 private:
  void OnReadPacket(rtc::AsyncPacketSocket* socket, const char* data, size_t size,
                    const rtc::SocketAddress&, const int64_t&) {
    for (const rtc::SocketAddress& destination : destinations_) {
      // What there is no room for is lost, as datagrams are.
      socket->SendTo(data, size, destination, options_);
    }
  }

  std::unique_ptr<rtc::AsyncUDPSocket> socket_;
  std::vector<rtc::SocketAddress> destinations_;
  rtc::PacketOptions options_;
};

}  // namespace

extern "C" {

Forwarder* bench_rtc_forwarder_new(rtc::Thread* thread, const uint16_t* ports, size_t count,
                                   uint16_t* port) {
  Forwarder* forwarder = nullptr;
  thread->BlockingCall([&] {
    const rtc::SocketAddress any_port(INADDR_LOOPBACK, 0);
    if (auto* socket = rtc::AsyncUDPSocket::Create(thread->socketserver(), any_port)) {
      forwarder = new Forwarder(socket, ports, count);
      *port = forwarder->port();
    }
  });
  return forwarder;
}

void bench_rtc_forwarder_delete(rtc::Thread* thread, Forwarder* forwarder) {
  thread->BlockingCall([&] { delete forwarder; });
}
}
