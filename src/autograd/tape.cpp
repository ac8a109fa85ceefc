// The tape: recording, and the walk back.
#include "mica/autograd/tape.h"

#include <algorithm>
#include <atomic>

#include "core/finite.h"
#include "core/tensor_access.h"
#include "kernels/kernels.h"
#include "mica/core/memory.h"

namespace MICA_EXPORT mica {

namespace {

thread_local Tape* current_tape = nullptr;

// Ids are never reused, so a tensor that outlives its tape is a constant to every other. 0 is no tape, 1 a parameter.
std::atomic<uint64_t> next_id{detail::Provenance::kLeaf + 1};

void accumulate(const Tensor& x, Tensor& y) {
  Context ctx = context(y.device());
  kernels_for(y.device()).accumulate(ctx, y.dtype(), y.elements(), x.raw(), TensorAccess::data(y));
}

}  // namespace

namespace detail {

namespace {
constexpr size_t kChunk = 16 << 10;
}

Arena::~Arena() {
  while (chunk_) {
    Chunk* previous = chunk_->previous;
    deallocate(chunk_, chunk_->size);
    chunk_ = previous;
  }
}

void* Arena::allocate(size_t bytes) {
  bytes = (bytes + 15) / 16 * 16;
  if (!chunk_ || used_ + bytes > chunk_->size) {
    const size_t size = std::max(kChunk, bytes + 64);
    Chunk* chunk = new (detail::allocate(size)) Chunk{chunk_, size};
    chunk_ = chunk;
    used_ = 64;
  }
  void* result = reinterpret_cast<char*>(chunk_) + used_;
  used_ += bytes;
  return result;
}

}  // namespace detail

// What gradient() was asked for: while it walks, nothing reaches the parameters' own gradients.
struct Tape::Wanted {
  struct Item {
    detail::Edge of;
    Tensor gradient;
  };
  std::vector<Item> items;

  Item* find(const detail::Edge& edge) {
    for (Item& item : items)
      if (item.of.slot == edge.slot && item.of.leaf == edge.leaf) return &item;
    return nullptr;
  }
};

Tape::Tape() : id_(next_id.fetch_add(1, std::memory_order_relaxed)), outer_(std::exchange(current_tape, this)) {}

Tape::~Tape() {
  // Tapes usually end in the reverse order of their beginnings; one that does not is taken out of the chain.
  Tape** link = &current_tape;
  while (*link && *link != this) link = &(*link)->outer_;
  if (*link) *link = outer_;
  while (last_) {
    detail::Record* r = std::exchange(last_, last_->previous);
    release(*r);
  }
}

Tape* Tape::current() { return current_tape; }

Tape::Pause::Pause() : previous_(std::exchange(current_tape, nullptr)) {}
Tape::Pause::~Pause() { current_tape = previous_; }

bool Tape::wants(const Tensor& x) const {
  if (consumed_) return false;
  const detail::Provenance& from = TensorAccess::provenance(x);
  return from.slot_on(id_) || (from.leaf() && from.leaf()->trainable);
}

const detail::Record* Tape::producer(const Tensor& x) const {
  const detail::GradSlot* slot = TensorAccess::provenance(x).slot_on(id_);
  return slot && !consumed_ ? slot->producer : nullptr;
}

void Tape::watch(Tensor& x) {
  check(x.defined() && (x.dtype() == float32 || x.dtype() == float64), "watch",
        "only float32 and float64 tensors have gradients");
  check(!consumed_, "watch", "the tape's record is consumed");
  if (wants(x)) return;
  Tensor* output = &x;
  begin("watch", {}, {&output, 1}, {});
}

detail::Record* Tape::begin(const char* op, std::span<const Tensor* const> inputs, std::span<Tensor* const> outputs,
                            std::span<const Tensor* const> saved) {
  if (detect_anomaly_) [[unlikely]]
    check_results(op, inputs, outputs);
  detail::Record* r = arena_.make<detail::Record>(1);
  r->op = op;
  r->inputs = arena_.make<detail::Edge>(static_cast<int>(inputs.size()));
  r->outputs = arena_.make<detail::GradSlot>(static_cast<int>(outputs.size()));
  r->saved = arena_.make<detail::Saved>(static_cast<int>(saved.size()));
  for (const Tensor* x : inputs) {
    detail::Edge& edge = r->inputs[r->num_inputs++];
    const detail::Provenance& from = TensorAccess::provenance(*x);
    edge.slot = from.slot_on(id_);
    if (from.leaf() && from.leaf()->trainable) detail::retain(edge.leaf = from.leaf());
  }
  for (const Tensor* x : saved) r->saved[r->num_saved++] = {TensorAccess::view(*x, 0, x->shape()), x->version()};
  for (Tensor* y : outputs) {
    detail::GradSlot& slot = r->outputs[r->num_outputs++];
    slot.shape = y->shape();
    slot.dtype = y->dtype();
    slot.device = y->device();
    slot.producer = r;
    TensorAccess::set_provenance(*y, detail::Provenance(id_, &slot));
  }
  r->previous = std::exchange(last_, r);
  return r;
}

void Tape::release(detail::Record& r) noexcept {
  if (r.destroy) r.destroy(r.closure);
  for (int i = 0; i < r.num_saved; ++i) r.saved[i].~Saved();
  for (int i = 0; i < r.num_outputs; ++i) r.outputs[i].gradient = Tensor();
  for (int i = 0; i < r.num_inputs; ++i)
    if (r.inputs[i].leaf) detail::release(r.inputs[i].leaf);
}

// Marks the records that the gradient will come by, and refuses stale saved tensors before anything is changed.
void Tape::mark_reached(const detail::GradSlot& start) const {
  start.producer->reached = true;
  for (const detail::Record* r = last_; r; r = r->previous) {
    if (!r->reached) continue;
    for (int i = 0; i < r->num_saved; ++i)
      check(r->saved[i].tensor.version() == r->saved[i].version, r->op,
            "a tensor saved for the gradient was written to since: shape ", r->saved[i].tensor.shape());
    for (int i = 0; i < r->num_inputs; ++i)
      if (r->inputs[i].slot) r->inputs[i].slot->producer->reached = true;
  }
}

void Tape::walk(const Tensor& y, const char* op) {
  check(y.defined() && y.elements() == 1, op, "gradients start from one number, got shape ", y.shape());
  check(!consumed_, op, "the tape's record is consumed: backward or gradient was called before");
  detail::GradSlot* start = TensorAccess::provenance(y).slot_on(id_);
  check(start != nullptr, op, "the tensor was not computed on this tape from a parameter or a watched tensor");
  mark_reached(*start);
  Pause pause;
  consumed_ = true;
  start->gradient = full(y.shape(), 1, {y.dtype(), y.device()});
  while (last_) {
    detail::Record& r = *last_;
    bool reached = false;
    for (int i = 0; i < r.num_outputs; ++i) {
      if (!r.outputs[i].gradient.defined()) continue;
      reached = true;
      if (wanted_)
        if (Wanted::Item* item = wanted_->find({&r.outputs[i], nullptr})) item->gradient = r.outputs[i].gradient;
    }
    if (reached && r.gradient) {
      if (observer_)
        observer_->observe({r.op,
                            {r.saved, static_cast<size_t>(r.num_saved)},
                            {r.inputs, static_cast<size_t>(r.num_inputs)},
                            r.outputs[0].gradient});
      Gradients g(*this, r);
      bool needed = false;
      for (int i = 0; i < r.num_inputs; ++i) needed = needed || g.needs(i);
      try {
        if (needed) r.gradient(r.closure, g);
        if (needed && detect_anomaly_) check_gradients(g, r);
      } catch (...) {  // what a kernel began to write is no gradient
        for (int i = 0; i < r.num_inputs; ++i)
          if (r.inputs[i].leaf && !wanted_) r.inputs[i].leaf->has_gradient = false;
        throw;
      }
    }
    last_ = r.previous;
    release(r);
  }
}

void Tape::check_results(const char* op, std::span<const Tensor* const> inputs,
                         std::span<Tensor* const> outputs) const {
  for (const Tensor* y : outputs) {
    const int64_t bad = first_nonfinite(*y);
    if (bad < 0) continue;
    std::string from = inputs.empty() ? "" : ", of finite inputs";
    for (size_t i = 0; i < inputs.size(); ++i) {
      const int64_t cause = first_nonfinite(*inputs[i]);
      if (cause < 0) continue;
      from = detail::concat(", and so is input ", uint64_t{i}, ": ", nonfinite_text(*inputs[i], cause));
      break;
    }
    fail(op, "the result is not finite: ", nonfinite_text(*y, bad), from);
  }
}

void Tape::check_gradients(const Gradients& g, const detail::Record& r) const {
  for (int i = 0; i < r.num_inputs; ++i) {
    const detail::Edge& edge = r.inputs[i];
    if (!g.needs(i)) continue;
    const Tensor& gradient = edge.slot ? edge.slot->gradient
                             : wanted_ ? wanted_->find(edge)->gradient
                                       : edge.leaf->gradient;
    const int64_t bad = first_nonfinite(gradient);
    if (bad < 0) continue;
    // The record knows no layer, but the parameters that were used last before it tell where it is.
    std::string where;
    if (!edge.slot) {
      where = edge.leaf->name.empty() ? ", a parameter," : ", " + edge.leaf->name + ",";
    } else {
      const detail::Leaf* near = nullptr;
      for (const detail::Record* before = &r; before && !near; before = before->previous)
        for (int k = 0; k < before->num_inputs; ++k)
          if (before->inputs[k].leaf) near = before->inputs[k].leaf;
      if (near && !near->name.empty()) where = ", soon after " + near->name + " was used,";
    }
    fail(r.op, "the gradient of input ", i, where, " is not finite: ", nonfinite_text(gradient, bad));
  }
}

void Tape::backward(const Tensor& loss) { walk(loss, "backward"); }

Tensors Tape::gradient(const Tensor& y, std::span<const Tensor> xs) {
  Wanted wanted;
  for (const Tensor& x : xs) {
    const detail::Provenance& from = TensorAccess::provenance(x);
    const detail::Edge edge{from.slot_on(id_), from.leaf()};
    check(edge.slot || edge.leaf, "gradient", "a tensor of shape ", x.shape(), " is not on this tape: watch it first");
    check(!edge.leaf || edge.leaf->trainable, "gradient", "parameter ", x.shape(),
          " is frozen: no op was recorded on it");
    wanted.items.push_back({edge, {}});
  }
  wanted_ = &wanted;
  try {
    walk(y, "gradient");
  } catch (...) {
    wanted_ = nullptr;
    throw;
  }
  wanted_ = nullptr;
  Tensors result;
  for (size_t i = 0; i < xs.size(); ++i) {
    Tensor& g = wanted.find(wanted.items[i].of)->gradient;
    result.push_back(g.defined() ? g : zeros_like(xs[i]));
  }
  return result;
}

bool Gradients::needs(int i) const {
  const detail::Edge& edge = record_.inputs[i];
  if (edge.slot) return true;
  return edge.leaf && (!tape_.wanted_ || tape_.wanted_->find(edge));
}

void Gradients::add(int i, Tensor dx) {
  if (!needs(i)) return;
  const detail::Edge& edge = record_.inputs[i];
  const Shape& shape = edge.slot ? edge.slot->shape : edge.leaf->value.shape();
  const DType dtype = edge.slot ? edge.slot->dtype : edge.leaf->value.dtype();
  check(dx.defined() && dx.shape() == shape && dx.dtype() == dtype, record_.op, "the gradient of input ", i,
        " must be ", shape, " ", dtype, ", got ", dx.shape(), " ", dx.dtype());
  Tensor* target;
  if (edge.slot) {
    target = &edge.slot->gradient;
  } else if (tape_.wanted_) {
    target = &tape_.wanted_->find(edge)->gradient;
  } else {
    Out destination = out(i);  // a parameter's gradient stays where it is packed
    if (destination.accumulate)
      accumulate(dx, destination.tensor);
    else
      destination.tensor.copy_from(dx);
    return;
  }
  if (!target->defined()) {
    TensorAccess::set_provenance(dx, {});
    *target = std::move(dx);
    return;
  }
  if (!TensorAccess::unique(*target)) *target = target->clone();
  accumulate(dx, *target);
}

Tensor Gradients::in_place_of_dy() {
  Tensor& dy = record_.outputs[0].gradient;
  return TensorAccess::unique(dy) ? dy : empty_like(dy);
}

Gradients::Out Gradients::out(int i) {
  const detail::Edge& edge = record_.inputs[i];
  MICA_ASSERT(needs(i));
  if (edge.leaf && !edge.slot && !tape_.wanted_) {
    detail::Leaf& leaf = *edge.leaf;
    // The value may have been replaced by another since the last gradient.
    const bool fits = leaf.gradient.defined() && leaf.gradient.shape() == leaf.value.shape() &&
                      leaf.gradient.dtype() == leaf.value.dtype() && leaf.gradient.device() == leaf.value.device();
    if (!fits) {
      leaf.has_gradient = false;
      leaf.gradient = empty_like(leaf.value);
    }
    return {leaf.gradient, std::exchange(leaf.has_gradient, true)};
  }
  Tensor& target = edge.slot ? edge.slot->gradient : tape_.wanted_->find(edge)->gradient;
  if (!target.defined()) {
    target = edge.slot ? empty(edge.slot->shape, {edge.slot->dtype, edge.slot->device}) : empty_like(edge.leaf->value);
    return {target, false};
  }
  if (!TensorAccess::unique(target)) target = target.clone();
  return {target, true};
}

}  // namespace mica
