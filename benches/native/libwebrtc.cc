// libwebrtc's rtc::Thread, with a C interface.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#include "rtc_base/thread.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<uint64_t> allocations{0};

// Runs the task, or only frees it.
using TaskFn = void (*)(void* data, int run);

// Two words, which absl::AnyInvocable stores inline: the only allocation is the task itself, as it
// would be for a C++ lambda of the same captures.
class Task {
 public:
  Task(TaskFn task, void* data) : task_(task), data_(data) {}
  Task(Task&& other) noexcept : task_(other.task_), data_(std::exchange(other.data_, nullptr)) {}
  ~Task() {
    if (data_) task_(data_, 0);
  }
  void operator()() && { task_(std::exchange(data_, nullptr), 1); }

 private:
  TaskFn task_;
  void* data_;
};

}  // namespace

void* operator new(size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

extern "C" {

void bench_rtc_count_allocations(bool on) { counting = on; }
uint64_t bench_rtc_allocations() { return allocations; }

rtc::Thread* bench_rtc_new(bool sockets) {
  auto thread = sockets ? rtc::Thread::CreateWithSocketServer() : rtc::Thread::Create();
  thread->Start();
  return thread.release();
}

void bench_rtc_delete(rtc::Thread* thread) {
  thread->Stop();
  delete thread;
}

void bench_rtc_post(rtc::Thread* thread, TaskFn task, void* data) {
  thread->PostTask(Task(task, data));
}

void bench_rtc_post_delayed(rtc::Thread* thread, int64_t us, TaskFn task, void* data) {
  thread->PostDelayedHighPrecisionTask(Task(task, data), webrtc::TimeDelta::Micros(us));
}

void bench_rtc_blocking_call(rtc::Thread* thread) {
  thread->BlockingCall([] {});
}
}
