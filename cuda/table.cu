// The table of this backend, made from the list of kernels: one that is not written does not link.
#include "cuda/core/runtime.h"
#include "cuda/table.h"

namespace mica::kernels {

namespace {

const Table& make_table(const char* backend) {
  static Table table(backend);
#define KERNEL(name, parameters) table.name = MICA_CUDA_BACKEND::name;
#include "kernels/kernels.def"
#undef KERNEL
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
