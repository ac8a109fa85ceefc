// The table of this backend: a line for each kernel that is written. Those of the list that are not stay empty, and
// kernels.h says so when one is called.
#include "cuda/core/runtime.h"
#include "cuda/table.h"

namespace mica::kernels {

namespace {

const Table& make_table(const char* backend) {
  static Table table(backend);
  table.matmul = MICA_CUDA_BACKEND::matmul;
  return table;
}

}  // namespace

#if defined(MICA_EMULATED)
void register_emulated() {
  static const Table& table = make_table("cuda-emulated");
  register_backend(Device::Type::cuda_emulated, table);
  detail::register_runtime(Device::Type::cuda_emulated, MICA_CUDA_BACKEND::runtime());
}
#else
void register_cuda() {
  static const Table& table = make_table("cuda");
  register_backend(Device::Type::cuda, table);
  detail::register_runtime(Device::Type::cuda, MICA_CUDA_BACKEND::runtime());
}
#endif

}  // namespace mica::kernels
