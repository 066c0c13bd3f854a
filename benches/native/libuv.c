/* A libuv loop with one async handle, as programs that post to a loop have it. The queue, and its
 * lock, are on the Rust side. */

#include <stdlib.h>
#include <uv.h>

/* Runs the task, or only frees it. */
typedef void (*task_fn)(void *data, int run);

struct bench_uv {
  uv_loop_t loop;
  uv_async_t async;
  void (*drain)(void *data);
  void *data;
};

struct bench_uv_timer {
  uv_timer_t timer;
  task_fn task;
  void *data;
};

static void on_async(uv_async_t *async) {
  struct bench_uv *uv = async->data;
  uv->drain(uv->data);
}

struct bench_uv *bench_uv_new(void (*drain)(void *), void *data) {
  struct bench_uv *uv = malloc(sizeof *uv);
  uv->drain = drain;
  uv->data = data;
  uv_loop_init(&uv->loop);
  uv_async_init(&uv->loop, &uv->async, on_async);
  uv->async.data = uv;
  return uv;
}

uv_loop_t *bench_uv_loop(struct bench_uv *uv) { return &uv->loop; }

/* From any thread. */
void bench_uv_send(struct bench_uv *uv) { uv_async_send(&uv->async); }

/* All below on the loop's thread. */

void bench_uv_run(struct bench_uv *uv) { uv_run(&uv->loop, UV_RUN_DEFAULT); }

static void on_timer_closed(uv_handle_t *handle) {
  struct bench_uv_timer *timer = (struct bench_uv_timer *)handle;
  if (timer->task) timer->task(timer->data, 0);
  free(timer);
}

static void close_any(uv_handle_t *handle, void *unused) {
  (void)unused;
  if (uv_is_closing(handle)) return;
  uv_close(handle, handle->type == UV_TIMER ? on_timer_closed : NULL);
}

/* Closes every handle, upon which the loop ends. */
void bench_uv_stop(struct bench_uv *uv) { uv_walk(&uv->loop, close_any, NULL); }

void bench_uv_free(struct bench_uv *uv) {
  uv_loop_close(&uv->loop);
  free(uv);
}

static void on_timer(uv_timer_t *handle) {
  struct bench_uv_timer *timer = (struct bench_uv_timer *)handle;
  task_fn task = timer->task;
  timer->task = NULL;
  task(timer->data, 1);
  uv_close((uv_handle_t *)handle, on_timer_closed);
}

struct bench_uv_timer *bench_uv_timer_start(struct bench_uv *uv, uint64_t ms, task_fn task,
                                            void *data) {
  struct bench_uv_timer *timer = malloc(sizeof *timer);
  timer->task = task;
  timer->data = data;
  uv_timer_init(&uv->loop, &timer->timer);
  uv_timer_start(&timer->timer, on_timer, ms, 0);
  return timer;
}

void bench_uv_timer_cancel(struct bench_uv_timer *timer) {
  uv_close((uv_handle_t *)&timer->timer, on_timer_closed);
}
