// An object's state as named tensors, and back.
#include <cstring>
#include <map>
#include <set>

#include "mica/io/checkpoint.h"

namespace MICA_EXPORT mica {
namespace io {

namespace {

// Knows the name of a field in the whole.
class Path : public StateVisitor {
 public:
  void enter(std::string_view name) final {
    lengths_.push_back(path_.size());
    path_ += name;
    path_ += '.';
  }
  void leave() final {
    path_.resize(lengths_.back());
    lengths_.pop_back();
  }

 protected:
  std::string path(std::string_view name) const { return path_ + std::string(name); }
  std::string path(std::string_view name, size_t i) const { return path(name) + '.' + std::to_string(i); }

 private:
  std::string path_;
  std::vector<size_t> lengths_;
};

// `bytes` of values as a tensor of its own.
Tensor tensor_of(const void* values, size_t bytes, const Shape& shape, DType dtype) {
  Tensor tensor = empty(shape, {dtype, Device::cpu()});
  if (bytes > 0) std::memcpy(tensor.mutable_raw(), values, bytes);
  return tensor;
}

class Writer final : public Path {
 public:
  NamedTensors result;

  void operator()(std::string_view name, bool& value) override { add(name, uint8_t{value}, uint8); }
  void operator()(std::string_view name, int64_t& value) override { add(name, value, int64); }
  void operator()(std::string_view name, uint64_t& value) override { add(name, value, int64); }
  void operator()(std::string_view name, double& value) override { add(name, value, float64); }
  void operator()(std::string_view name, std::string& value) override { add_row(name, value, uint8); }
  void operator()(std::string_view name, std::vector<int64_t>& values) override { add_row(name, values, int64); }
  void operator()(std::string_view name, std::vector<double>& values) override { add_row(name, values, float64); }
  void operator()(std::string_view name, Tensor& value) override {
    if (value.defined()) result.emplace_back(path(name), value.detach());
  }
  void operator()(std::string_view name, Tensors& values) override {
    for (size_t i = 0; i < values.size(); ++i) result.emplace_back(path(name, i), values[i].detach());
  }

 private:
  template <class T>
  void add(std::string_view name, T value, DType dtype) {
    result.emplace_back(path(name), tensor_of(&value, sizeof value, {}, dtype));
  }
  template <class Row>
  void add_row(std::string_view name, const Row& values, DType dtype) {
    result.emplace_back(path(name), tensor_of(values.data(), values.size() * sizeof(values[0]),
                                              {static_cast<int64_t>(values.size())}, dtype));
  }
};

// Checks that each field has a tensor that fits; and, `setting`, sets it.
class Reader final : public Path {
 public:
  explicit Reader(const NamedTensors& tensors) {
    for (const auto& [name, tensor] : tensors) tensors_.emplace(name, &tensor);
  }

  bool setting = false;

  /// Throws Error unless every tensor was asked for.
  void check_all_used() const {
    for (const auto& [name, tensor] : tensors_)
      if (!seen_.contains(name)) fail(kOp, "there is nothing that takes \"", name, "\" ", tensor->shape());
  }

  void operator()(std::string_view name, bool& value) override {
    uint8_t byte = value;
    get(name, byte, uint8);
    value = byte != 0;
  }
  void operator()(std::string_view name, int64_t& value) override { get(name, value, int64); }
  void operator()(std::string_view name, uint64_t& value) override { get(name, value, int64); }
  void operator()(std::string_view name, double& value) override { get(name, value, float64); }
  void operator()(std::string_view name, std::string& value) override { get_row(name, value, uint8); }
  void operator()(std::string_view name, std::vector<int64_t>& values) override { get_row(name, values, int64); }
  void operator()(std::string_view name, std::vector<double>& values) override { get_row(name, values, float64); }
  void operator()(std::string_view name, Tensor& value) override {
    if (!value.defined()) {
      if (const Tensor* found = find(path(name)); found && setting) value = found->clone();
      return;
    }
    const Tensor& found = at(path(name), value.dtype());
    check(found.shape() == value.shape(), kOp, "\"", path(name), "\" must have shape ", value.shape(), ", got ",
          found.shape());
    if (setting) value.copy_from(found);
  }
  void operator()(std::string_view name, Tensors& values) override {
    Tensors all;
    while (const Tensor* found = find(path(name, all.size()))) all.push_back(setting ? found->clone() : *found);
    if (setting) values = std::move(all);
  }

 private:
  static constexpr const char* kOp = "set_state";

  const Tensor* find(const std::string& name) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return nullptr;
    seen_.insert(found->first);
    return found->second;
  }
  const Tensor& at(const std::string& name, DType dtype) {
    const Tensor* found = find(name);
    check(found != nullptr, kOp, "there is no \"", name, "\"");
    check(found->dtype() == dtype, kOp, "\"", name, "\" must be ", dtype, ", got ", found->dtype());
    return *found;
  }
  template <class T>
  void get(std::string_view name, T& value, DType dtype) {
    const Tensor& found = at(path(name), dtype);
    check(found.rank() == 0, kOp, "\"", path(name), "\" must be one number, got shape ", found.shape());
    if (setting) std::memcpy(&value, found.raw(), sizeof value);
  }
  template <class Row>
  void get_row(std::string_view name, Row& values, DType dtype) {
    const Tensor& found = at(path(name), dtype);
    check(found.rank() == 1, kOp, "\"", path(name), "\" must have one axis, got shape ", found.shape());
    if (!setting) return;
    values.resize(static_cast<size_t>(found.elements()));
    if (found.bytes() > 0) std::memcpy(values.data(), found.raw(), found.bytes());
  }

  std::map<std::string_view, const Tensor*> tensors_;
  std::set<std::string_view> seen_;
};

}  // namespace

NamedTensors detail::state_tensors(void* object, void (*visit)(void* object, StateVisitor& v)) {
  Writer writer;
  visit(object, writer);
  return std::move(writer.result);
}

void detail::set_state(void* object, void (*visit)(void* object, StateVisitor& v), const NamedTensors& tensors,
                       bool set) {
  Reader reader(tensors);
  visit(object, reader);
  reader.check_all_used();
  if (!set) return;
  reader.setting = true;
  visit(object, reader);
}

}  // namespace io
}  // namespace mica
