// malloc and pthread_mutex_lock as this program sees them: counted, then passed on to glibc.
#include "counters.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <unistd.h>

#include <cstddef>

namespace {

// Of the initial-exec model: touching them must not allocate.
#define MICA_TEST_THREAD_LOCAL [[gnu::tls_model("initial-exec")]] thread_local
MICA_TEST_THREAD_LOCAL int64_t mallocs = 0;
MICA_TEST_THREAD_LOCAL int64_t locks = 0;
MICA_TEST_THREAD_LOCAL int traces_left = 0;

void trace(const char* what, size_t length) {
  if (traces_left <= 0) return;
  const int left = traces_left;
  traces_left = 0;  // backtrace may allocate
  void* frames[16];
  const int count = backtrace(frames, 16);
  if (write(STDERR_FILENO, what, length) > 0) backtrace_symbols_fd(frames + 2, count - 2, STDERR_FILENO);
  traces_left = left - 1;
}

void count_malloc() {
  ++mallocs;
  trace("-- malloc\n", 10);
}

}  // namespace

namespace mica::test {

Counts counts() { return {mallocs, locks}; }

Trace::Trace() { traces_left = 10; }
Trace::~Trace() { traces_left = 0; }

}  // namespace mica::test

extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  count_malloc();
  return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
  count_malloc();
  return __libc_calloc(count, size);
}

void* realloc(void* block, size_t size) {
  count_malloc();
  return __libc_realloc(block, size);
}

void* memalign(size_t alignment, size_t size) {
  count_malloc();
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = memalign(alignment, size);
  return *block ? 0 : 12;  // ENOMEM
}

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  using Function = int (*)(pthread_mutex_t*);
  static const auto next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  ++locks;
  trace("-- mutex\n", 9);
  return next(mutex);
}

}  // extern "C"
