// Columns, and MNIST.
#include "mica/data/dataset.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "core/device_runtime.h"
#include "core/tensor_access.h"
#include "kernels/kernels.h"
#include "mica/data/idx.h"
#include "mica/ops/index.h"

namespace MICA_EXPORT mica {
namespace data {

Tensor Column::batch(const Tensor& part) const {
  if (!scaled()) return part;
  Tensor y = empty(part.shape(), {float32, part.device()});
  Context ctx = context(part.device());
  kernels_for(part.device())
      .cast(ctx, part.elements(), part.dtype(), part.raw(), float32, scale_, offset_, TensorAccess::data(y));
  return y;
}

Tensor Column::rows(int64_t begin, int64_t end) const { return batch(values_.slice(begin, end)); }

Tensor Column::gather(std::span<const int64_t> indices) const {
  check(defined() && values_.rank() >= 1, "gather", "the column is empty");
  const Shape one = example();
  const int64_t count = one.elements(), n = size();
  for (const int64_t i : indices) check(i >= 0 && i < n, "gather", "example ", i, " is outside of 0..", n - 1);
  if (const Device device = values_.device(); device != Device::cpu()) {
    Tensor index = empty({static_cast<int64_t>(indices.size())}, {int64, device});
    detail::copy_between(device, index.mutable_raw(), Device::cpu(), indices.data(), index.bytes());
    return batch(take(values_, index, 0));
  }
  Tensor y = empty(one.with_first(static_cast<int64_t>(indices.size())), {dtype(), Device::cpu()});
  const size_t from = static_cast<size_t>(count) * size_of(values_.dtype()),
               to = static_cast<size_t>(count) * size_of(dtype());
  const char* in = static_cast<const char*>(values_.raw());
  char* out = static_cast<char*>(TensorAccess::data(y));
  Context ctx{.device = Device::cpu(), .threads = 1};
  const kernels::Table& k = kernels_for(Device::cpu());
  for (const int64_t i : indices) {
    if (scaled())
      k.cast(ctx, count, values_.dtype(), in + static_cast<size_t>(i) * from, float32, scale_, offset_, out);
    else if (from)
      std::memcpy(out, in + static_cast<size_t>(i) * from, from);
    out += to;
  }
  return y;
}

Column Column::slice(int64_t begin, int64_t end) const { return {values_.slice(begin, end), scale_, offset_}; }

bool Columns::defined() const {
  return count_ > 0 && std::all_of(begin(), end(), [](const Column& c) { return c.defined(); });
}

Columns Columns::slice(int64_t first, int64_t last) const {
  std::vector<Column> parts;
  for (const Column& column : *this) parts.push_back(column.slice(first, last));
  return Columns(std::move(parts));
}

Split mnist(const std::string& folder) {
  const auto load = [&](const char* name) {
    const std::string path = folder + "/" + name;
    std::error_code ignored;
    return load_idx(std::filesystem::exists(path + ".gz", ignored) ? path + ".gz" : path);
  };
  const auto pair = [&](const char* images_name, const char* labels_name) {
    const Tensor images = load(images_name), labels = load(labels_name);
    check<FileError>(images.rank() == 3 && images.dtype() == uint8, "mnist", folder, "/", images_name,
                     ": images must be uint8 [n, height, width], got ", images.shape(), " ", images.dtype());
    check<FileError>(labels.rank() == 1 && labels.dtype() == uint8, "mnist", folder, "/", labels_name,
                     ": labels must be uint8 [n], got ", labels.shape(), " ", labels.dtype());
    check<FileError>(images.dim(0) == labels.dim(0), "mnist", folder, ": ", images.dim(0), " images in ", images_name,
                     ", but ", labels.dim(0), " labels in ", labels_name);
    return Dataset{{images.reshape({images.dim(0), images.dim(1), images.dim(2), 1}), 1.0 / 255.0}, labels};
  };
  return {pair("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
          pair("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")};
}

}  // namespace data
}  // namespace mica
