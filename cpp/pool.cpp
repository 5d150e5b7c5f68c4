#include "pool.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(TILEWRIGHT_X86)
#include <immintrin.h>
#endif

namespace tilewright {
namespace {

void pause_briefly() {
#if defined(TILEWRIGHT_X86)
  _mm_pause();
#endif
}

// A helper waits for the next call in three stages. A few microseconds of spinning bridge the phases of one call. It then
// yields the core to other threads (such as torch's) for about as long as it takes to get from one layer of a network to
// the next. Only then does it sleep, because waking it can take longer than the whole call.
constexpr int spins = 400;
constexpr std::chrono::microseconds yielding{200};

struct Job {
  const std::function<void(std::size_t)>& work;
  std::size_t items;
  std::atomic<std::size_t> next{0};
  std::mutex guard{};
  std::exception_ptr failure{};

  void run() {
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(guard);
        if (!failure) failure = std::current_exception();
        next.store(items, std::memory_order_relaxed);
      }
    }
  }
};

// A helper is idle, offered a job, or working on it. An offer not yet taken when the caller has finished all items
// is withdrawn, so a helper the system did not schedule in time costs nothing.
enum State : int { idle, offered, working };

struct Helper {
  std::atomic<int> state{idle};
  Job* job = nullptr;

  void loop() {
    for (;;) {
      for (int i = 0; i < spins && state.load(std::memory_order_relaxed) == idle; ++i) pause_briefly();
      const auto asleep = std::chrono::steady_clock::now() + yielding;
      while (state.load(std::memory_order_relaxed) == idle && std::chrono::steady_clock::now() < asleep) {
        std::this_thread::yield();
      }
      state.wait(idle, std::memory_order_acquire);
      int expected = offered;
      if (!state.compare_exchange_strong(expected, working, std::memory_order_acq_rel)) continue;
      job->run();
      state.store(idle, std::memory_order_release);
      state.notify_all();
    }
  }

  void finish() {
    int expected = offered;
    if (state.compare_exchange_strong(expected, idle, std::memory_order_acq_rel)) return;
    for (int i = 0; i < spins && state.load(std::memory_order_acquire) == working; ++i) pause_briefly();
    while (state.load(std::memory_order_acquire) == working) state.wait(working, std::memory_order_acquire);
  }
};

struct Pool {
  std::mutex busy;
  std::vector<std::unique_ptr<Helper>> helpers;

  // Adds helpers up to `count`, or fewer if the system does not allow more threads.
  void grow(std::size_t count) {
    if (helpers.size() >= count) return;
    // Signals are for the threads of the program, not for the helpers.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      while (helpers.size() < count) {
        auto helper = std::make_unique<Helper>();
        std::thread(&Helper::loop, helper.get()).detach();
        helpers.push_back(std::move(helper));
      }
    } catch (const std::system_error&) {
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
};

// GNU OpenMP's entry for a parallel region: run(data) on `threads` threads, the caller among them.
using OpenMp = void (*)(void (*run)(void*), void* data, unsigned threads, unsigned flags);

// After a fork the threads of libgomp are gone in the child, but it would wait for them forever.
std::atomic<bool> forked{false};

// If torch (or another library) has loaded GNU OpenMP, its threads are already awake and spinning on the cores we need,
// so they are borrowed. Nothing is linked or loaded for this.
OpenMp borrowed() {
  static std::atomic<OpenMp> found{nullptr};
  if (forked.load(std::memory_order_relaxed)) return nullptr;
  OpenMp parallel = found.load(std::memory_order_relaxed);
  if (parallel == nullptr) {
    void* library = dlopen("libgomp.so.1", RTLD_NOLOAD | RTLD_LAZY);
    if (library == nullptr) return nullptr;
    parallel = reinterpret_cast<OpenMp>(dlsym(library, "GOMP_parallel"));
    found.store(parallel, std::memory_order_relaxed);
  }
  return parallel;
}

// Never destroyed: helpers sleep until the process ends. A forked child has none of its parent's threads and starts
// with a fresh pool.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  Pool* p = the_pool.load(std::memory_order_acquire);
  if (p != nullptr) return *p;
  auto fresh = std::make_unique<Pool>();
  if (the_pool.compare_exchange_strong(p, fresh.get(), std::memory_order_acq_rel)) p = fresh.release();
  return *p;
}

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] {
  the_pool = nullptr;
  forked = true;
});

}  // namespace

void parallel(std::size_t items, std::size_t threads, const std::function<void(std::size_t)>& work) {
  Job job{work, items};
  std::size_t helping = (threads < items ? threads : items);
  helping = helping > 0 ? helping - 1 : 0;
  if (helping == 0) {
    job.run();
  } else if (const OpenMp openmp = borrowed()) {
    openmp([](void* data) { static_cast<Job*>(data)->run(); }, &job, static_cast<unsigned>(helping + 1), 0);
  } else {
    Pool& p = pool();
    const std::unique_lock lock(p.busy, std::try_to_lock);
    if (!lock.owns_lock()) {
      job.run();
    } else {
      p.grow(helping);
      if (helping > p.helpers.size()) helping = p.helpers.size();
      for (std::size_t i = 0; i < helping; ++i) {
        Helper& helper = *p.helpers[i];
        helper.job = &job;
        helper.state.store(offered, std::memory_order_release);
        helper.state.notify_one();
      }
      job.run();
      for (std::size_t i = 0; i < helping; ++i) p.helpers[i]->finish();
    }
  }
  if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace tilewright
