// Values moved and put together: checks, forward and gradient. Everything is a strided copy out of a tensor, or
// of several into one, or made of those.
#include "mica/ops/manipulate.h"

#include <algorithm>

#include "mica/ops/compare.h"
#include "mica/ops/index.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace {

using ops::AroundAxis;
using ops::Strides;

// Some elements of a contiguous tensor: where they begin, how many there are along each axis, how far apart.
struct Window {
  Shape shape;
  int64_t offset = 0;
  int64_t strides[Shape::kMaxRank] = {};
};

// dense (contiguous, of window.shape) from the window of `whole`, or the other way round.
enum class Direction : unsigned char { out_of_window, into_window };
void copy(const Window& window, Tensor& target, const Tensor& source, Direction direction, kernels::Write write) {
  const Strides dense(window.shape);
  const bool out = direction == Direction::out_of_window;
  const kernels::StridedDims dims =
      ops::strided_dims(window.shape, out ? window.strides : dense.of, out ? dense.of : window.strides);
  const auto bytes = window.offset * static_cast<int64_t>(size_of(source.dtype()));
  const char* from = static_cast<const char*>(source.raw()) + (out ? bytes : 0);
  char* to = static_cast<char*>(ops::out(target)) + (out ? 0 : bytes);
  Context ctx = context(target.device());
  kernels_for(target.device()).copy(ctx, target.dtype(), dims, from, to, write);
}

// A copy of what the window shows, each element at most once; `whole` says that it shows all of x.
Tensor read(const char* op, const Tensor& x, const Window& window, bool whole) {
  Tensor y = empty(window.shape, {x.dtype(), x.device()});
  copy(window, y, x, Direction::out_of_window, kernels::Write::overwrite);
  if (Tape* tape = is_floating(x.dtype()) ? Tape::recording(x) : nullptr)
    tape->record(op, {&x}, {&y}, {}, [window, whole](Gradients& g) {
      Gradients::Out dx = g.out(0);
      Context ctx = context(g.dy().device());
      const bool clear = !dx.accumulate && !whole;
      if (clear)
        kernels_for(g.dy().device()).fill(ctx, dx.tensor.dtype(), dx.tensor.elements(), 0, ops::out(dx.tensor));
      copy(window, dx.tensor, g.dy(), Direction::into_window, clear ? kernels::Write::accumulate : ops::write(dx));
    });
  return y;
}

// `x` placed into y from position `begin` of `axis`.
Window part(const Shape& whole, int axis, int64_t begin, int64_t size) {
  Window window{.shape = ops::with_size(whole, axis, size)};
  const Strides strides(whole);
  std::copy(strides.of, strides.of + Shape::kMaxRank, window.strides);
  window.offset = begin * strides.of[axis];
  return window;
}

}  // namespace

Tensor broadcast_to(const Tensor& x, const Shape& shape) {
  check(x.defined(), "broadcast_to", "the tensor is undefined");
  if (x.shape() == shape) return x;
  check(broadcast("broadcast_to", x.shape(), shape) == shape, "broadcast_to", "shape ", x.shape(),
        " does not broadcast to ", shape);
  Tensor y = empty(shape, {x.dtype(), x.device()});
  Context ctx = context(x.device());
  kernels_for(x.device())
      .copy(ctx, x.dtype(), ops::broadcast_dims(shape, x.shape(), shape), x.raw(), ops::out(y),
            kernels::Write::overwrite);
  if (Tape* tape = is_floating(x.dtype()) ? Tape::recording(x) : nullptr)
    tape->record("broadcast_to", {&x}, {&y}, {},
                 [from = x.shape()](Gradients& g) { g.add(0, ops::sum_to(g.dy(), from)); });
  return y;
}

Tensor transpose(const Tensor& x, const Axes& axes) {
  check(x.defined(), "transpose", "the tensor is undefined");
  const int rank = x.rank();
  if (axes.count() > 0) {
    axes.mask("transpose", x.shape());
    check(axes.count() == rank, "transpose", "each axis must be named once: ", axes.count(), " axes for shape ",
          x.shape());
  }
  const Strides strides(x.shape());
  Window window{.shape = x.shape()};
  for (int i = 0; i < rank; ++i) {
    const int from = axes.count() > 0 ? x.shape().index(axes[i]) : rank - 1 - i;
    window.shape[i] = x.dim(from);
    window.strides[i] = strides.of[from];
  }
  return read("transpose", x, window, true);
}

Tensor expand_dims(const Tensor& x, int axis) {
  check(x.defined(), "expand_dims", "the tensor is undefined");
  return x.reshape(ops::with_axis("expand_dims", x.shape(), axis, 1));
}

Tensor squeeze(const Tensor& x, int axis) {
  check(x.defined(), "squeeze", "the tensor is undefined");
  const int a = ops::checked_axis("squeeze", x.shape(), axis);
  check(x.dim(a) == 1, "squeeze", "axis ", axis, " must have size 1, shape ", x.shape());
  return x.reshape(ops::without_axis(x.shape(), a));
}

namespace {

// One after another along `axis`, under a shape with room for all.
Tensor join(const char* op, std::span<const Tensor> xs, int axis, const Shape& shape, std::span<const int64_t> sizes) {
  Tensor y = empty(shape, {xs[0].dtype(), xs[0].device()});
  int64_t begin = 0;
  ops::Small<const Tensor*> inputs;
  Tape* tape = nullptr;
  for (size_t i = 0; i < xs.size(); ++i) {
    copy(part(shape, axis, begin, sizes[i]), y, xs[i], Direction::into_window, kernels::Write::overwrite);
    begin += sizes[i];
    inputs.add(&xs[i]);
    if (is_floating(y.dtype()) && !tape) tape = Tape::recording(xs[i]);
  }
  if (!tape) return y;
  ops::Small<int64_t> kept;
  for (const int64_t size : sizes) kept.add(size);
  tape->record(op, inputs.span(), y, [axis, shape, kept = std::move(kept)](Gradients& g) {
    int64_t at = 0;
    for (size_t i = 0; i < kept.span().size(); ++i) {
      const int64_t size = kept.span()[i];
      if (g.needs(static_cast<int>(i))) {
        Gradients::Out dx = g.out(static_cast<int>(i));
        copy(part(shape, axis, at, size), dx.tensor, g.dy(), Direction::out_of_window, ops::write(dx));
      }
      at += size;
    }
  });
  return y;
}

void check_several(const char* op, std::span<const Tensor> xs) {
  check(!xs.empty(), op, "there must be at least one tensor");
  check(xs[0].defined(), op, "tensor 0 is undefined");
  for (size_t i = 1; i < xs.size(); ++i) {
    check(xs[i].defined(), op, "tensor ", static_cast<uint64_t>(i), " is undefined");
    check(xs[i].dtype() == xs[0].dtype(), op, "dtypes must match: ", xs[0].dtype(), " and ", xs[i].dtype());
    check(xs[i].device() == xs[0].device(), op, "devices must match: ", xs[0].device(), " and ", xs[i].device());
  }
}

}  // namespace

Tensor concat(std::span<const Tensor> xs, int axis) {
  check_several("concat", xs);
  const int a = ops::checked_axis("concat", xs[0].shape(), axis);
  ops::Small<int64_t> sizes;
  int64_t total = 0;
  for (const Tensor& x : xs) {
    check(x.rank() == xs[0].rank() && ops::with_size(x.shape(), a, 0) == ops::with_size(xs[0].shape(), a, 0), "concat",
          "sizes must match but for axis ", axis, ": ", xs[0].shape(), " and ", x.shape());
    sizes.add(x.dim(a));
    total += x.dim(a);
  }
  return join("concat", xs, a, ops::with_size(xs[0].shape(), a, total), sizes.span());
}

Tensor stack(std::span<const Tensor> xs, int axis) {
  check_several("stack", xs);
  for (const Tensor& x : xs)
    check(x.shape() == xs[0].shape(), "stack", "shapes must match: ", xs[0].shape(), " and ", x.shape());
  const Shape shape = ops::with_axis("stack", xs[0].shape(), axis, static_cast<int64_t>(xs.size()));
  ops::Small<int64_t> sizes;
  for (size_t i = 0; i < xs.size(); ++i) sizes.add(1);
  return join("stack", xs, axis < 0 ? axis + shape.rank() : axis, shape, sizes.span());
}

Tensors split(const Tensor& x, std::span<const int64_t> sizes, int axis) {
  check(x.defined(), "split", "the tensor is undefined");
  const int a = ops::checked_axis("split", x.shape(), axis);
  int64_t total = 0;
  for (const int64_t size : sizes) {
    check(size >= 0 && size <= x.dim(a), "split", "a part of ", size, " does not fit axis ", axis, " of ", x.shape());
    total += size;
    check(total <= x.dim(a), "split", "the parts must add up to axis ", axis, " of ", x.shape(), ", not to more");
  }
  check(total == x.dim(a), "split", "the parts must add up to axis ", axis, " of ", x.shape(), ", not to ", total);
  Tensors parts;
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    parts.push_back(read("split", x, part(x.shape(), a, begin, size), size == x.dim(a)));
    begin += size;
  }
  return parts;
}

Tensors split(const Tensor& x, int64_t sections, int axis) {
  check(x.defined(), "split", "the tensor is undefined");
  const int a = ops::checked_axis("split", x.shape(), axis);
  check(sections >= 1 && x.dim(a) % sections == 0, "split", "axis ", axis, " of ", x.shape(), " cannot be cut into ",
        sections, " equal parts");
  check(sections <= (int64_t{1} << 20), "split", "too many parts: ", sections);
  return split(x, std::vector<int64_t>(static_cast<size_t>(sections), x.dim(a) / sections), axis);
}

Tensor slice(const Tensor& x, std::span<const Range> ranges) {
  check(x.defined(), "slice", "the tensor is undefined");
  check(static_cast<int>(ranges.size()) <= x.rank(), "slice", static_cast<uint64_t>(ranges.size()),
        " ranges are too many for shape ", x.shape());
  Window window{.shape = x.shape()};
  const Strides strides(x.shape());
  std::copy(strides.of, strides.of + Shape::kMaxRank, window.strides);
  int axis = 0;
  for (const Range& range : ranges) {
    const int64_t n = x.dim(axis);
    check(range.step != 0 && range.step != Range::kNone, "slice", "the step of axis ", axis,
          " must be a number other than 0");
    const bool forward = range.step > 0;
    // Forwards from [0, n], backwards from [-1, n - 1]: the bounds are places between which elements lie.
    const int64_t low = forward ? 0 : -1, high = forward ? n : n - 1;
    const auto bound = [&](int64_t value, int64_t otherwise) {
      if (value == Range::kNone) return otherwise;
      return std::clamp(value < 0 ? value + n : value, low, high);
    };
    const int64_t begin = bound(range.begin, forward ? low : high), end = bound(range.end, forward ? high : low);
    const int64_t distance = forward ? end - begin : begin - end;
    const uint64_t step = forward ? static_cast<uint64_t>(range.step) : -static_cast<uint64_t>(range.step);
    const int64_t count = distance <= 0 ? 0 : 1 + static_cast<int64_t>(static_cast<uint64_t>(distance - 1) / step);
    window.shape[axis] = count;
    window.offset += count > 0 ? begin * strides.of[axis] : 0;
    window.strides[axis] *= count > 1 ? range.step : 1;
    ++axis;
  }
  return read("slice", x, window, window.shape.elements() == x.elements());
}

namespace {

// Positions along an axis of n elements that a border of repeated ones reads.
Tensor border(const PadWidth& width, int64_t n, PadMode mode) {
  Tensor index = empty({width.before + n + width.after}, {int64, Device::cpu()});
  auto* at = index.mutable_data<int64_t>();
  for (int64_t i = -width.before; i < n + width.after; ++i) {
    if (mode == PadMode::edge)
      *at++ = std::clamp<int64_t>(i, 0, n - 1);
    else
      *at++ = i < 0 ? -i : i < n ? i : 2 * (n - 1) - i;
  }
  return index;
}

}  // namespace

Tensor pad(const Tensor& x, std::span<const PadWidth> widths, PadOptions options) {
  check(x.defined(), "pad", "the tensor is undefined");
  check(static_cast<int>(widths.size()) == x.rank(), "pad",
        "there must be one width an axis: ", static_cast<uint64_t>(widths.size()), " for shape ", x.shape());
  Shape shape = x.shape();
  int axis = 0;
  for (const PadWidth& width : widths) {
    constexpr int64_t kMost = int64_t{1} << 40;
    check(width.before >= 0 && width.after >= 0 && width.before < kMost && width.after < kMost, "pad",
          "widths must not be negative or huge: ", width.before, " and ", width.after, " of axis ", axis);
    const int64_t most = options.mode == PadMode::reflect ? x.dim(axis) - 1 : x.dim(axis) > 0 ? kMost : 0;
    const bool copies = options.mode != PadMode::constant && (width.before > 0 || width.after > 0);
    check(!copies || std::max(width.before, width.after) <= most, "pad", "axis ", axis, " of ", x.shape(),
          " has too few elements for a border of ", std::max(width.before, width.after));
    shape[axis] += width.before + width.after;
    ++axis;
  }
  ops::check_size("pad", shape);
  check(options.mode != PadMode::constant || ops::holds(x.dtype(), options.value), "pad", options.value,
        " is no value of ", x.dtype());
  if (options.mode != PadMode::constant && shape.elements() > 0) {
    Tensor y = x;
    axis = 0;
    for (const PadWidth& width : widths) {
      if (width.before > 0 || width.after > 0)
        y = take(y, border(width, x.dim(axis), options.mode).to(x.device()), axis);
      ++axis;
    }
    return y.shares_storage_with(x) ? x.clone() : y;
  }
  const TensorOptions like{x.dtype(), x.device()};
  Tensor y = shape.elements() > 0 ? full(shape, options.value, like) : empty(shape, like);
  Window window{.shape = x.shape()};
  if (x.elements() > 0) {
    const Strides strides(shape);
    axis = 0;
    for (const PadWidth& width : widths) {
      window.strides[axis] = strides.of[axis];
      window.offset += width.before * strides.of[axis];
      ++axis;
    }
    copy(window, y, x, Direction::into_window, kernels::Write::overwrite);
  }
  if (Tape* tape = is_floating(x.dtype()) ? Tape::recording(x) : nullptr)
    tape->record("pad", {&x}, {&y}, {}, [window](Gradients& g) {
      Gradients::Out dx = g.out(0);
      if (window.shape.elements() > 0) copy(window, dx.tensor, g.dy(), Direction::out_of_window, ops::write(dx));
    });
  return y;
}

Tensor roll(const Tensor& x, int64_t shift, int axis) {
  check(x.defined(), "roll", "the tensor is undefined");
  const int a = ops::checked_axis("roll", x.shape(), axis);
  const int64_t n = x.dim(a);
  const int64_t by = n > 0 ? (shift % n + n) % n : 0;
  if (by == 0) return x.clone();
  const Tensors parts = split(x, {n - by, by}, a);
  return concat({parts[1], parts[0]}, a);
}

Tensor flip(const Tensor& x, const Axes& axes) {
  check(x.defined(), "flip", "the tensor is undefined");
  const unsigned mask = axes.mask("flip", x.shape());
  Window window{.shape = x.shape()};
  const Strides strides(x.shape());
  for (int i = 0; i < x.rank(); ++i) {
    const bool flips = mask >> i & 1u && x.elements() > 0;
    window.strides[i] = flips ? -strides.of[i] : strides.of[i];
    if (flips) window.offset += (x.dim(i) - 1) * strides.of[i];
  }
  return read("flip", x, window, true);
}

namespace {

// x [outer, n, inner] as [outer, n, count, inner] (inside) or [outer, count, n, inner], the copies made one axis with
// n.
Tensor repeated(const char* op, const Tensor& x, int64_t count, int axis, bool inside) {
  const AroundAxis at(x.shape(), axis);
  int64_t size = 0;
  check(!__builtin_mul_overflow(at.n, count, &size), op, "too many elements: ", count, " times axis ", axis, " of ",
        x.shape());
  ops::check_size(op, ops::with_size(x.shape(), axis, size));
  const Tensor y = inside ? broadcast_to(x.reshape({at.outer * at.n, 1, at.inner}), {at.outer * at.n, count, at.inner})
                          : broadcast_to(x.reshape({at.outer, 1, at.n * at.inner}), {at.outer, count, at.n * at.inner});
  return y.reshape(ops::with_size(x.shape(), axis, size));
}

void check_count(const char* op, int64_t count) {
  check(count >= 0 && count < (int64_t{1} << 40), op, "the count must not be negative or huge, got ", count);
}

}  // namespace

Tensor repeat(const Tensor& x, int64_t count, int axis) {
  check(x.defined(), "repeat", "the tensor is undefined");
  check_count("repeat", count);
  const int a = ops::checked_axis("repeat", x.shape(), axis);
  return count == 1 ? x.clone() : repeated("repeat", x, count, a, true);
}

Tensor tile(const Tensor& x, std::span<const int64_t> counts) {
  check(x.defined(), "tile", "the tensor is undefined");
  const auto given = static_cast<int>(counts.size());
  check(given <= Shape::kMaxRank, "tile", "a tensor has at most 8 axes, got ", given, " counts");
  for (const int64_t count : counts) check_count("tile", count);
  Shape shape = x.shape();
  while (shape.rank() < given) shape = shape.with_first(1);
  Tensor y = x.reshape(shape);
  int axis = shape.rank() - given;
  for (const int64_t count : counts) {
    if (count != 1) y = repeated("tile", y, count, axis, false);
    ++axis;
  }
  return y.shares_storage_with(x) ? y.clone() : y;
}

Tensor diagonal(const Tensor& x, int axis1, int axis2) {
  check(x.defined(), "diagonal", "the tensor is undefined");
  const int a = ops::checked_axis("diagonal", x.shape(), axis1), b = ops::checked_axis("diagonal", x.shape(), axis2);
  check(a != b, "diagonal", "the two axes must differ, got ", axis1, " and ", axis2);
  const Strides strides(x.shape());
  const int64_t size = std::min(x.dim(a), x.dim(b));
  Window window{.shape = ops::with_axis("diagonal",
                                        ops::without_axis(ops::without_axis(x.shape(), std::max(a, b)), std::min(a, b)),
                                        -1, size)};
  int to = 0;
  for (int i = 0; i < x.rank(); ++i)
    if (i != a && i != b) window.strides[to++] = strides.of[i];
  window.strides[to] = strides.of[a] + strides.of[b];
  return read("diagonal", x, window, x.dim(a) * x.dim(b) == size);
}

namespace {

Tensor triangle(const char* op, const Tensor& x, int64_t k, bool lower) {
  check(x.defined() && x.rank() >= 2, op, "the input must have at least 2 axes, got ", x.shape());
  if (x.elements() == 0) return x.clone();
  const TensorOptions wide{int64, x.device()};
  const Tensor rows = arange(0, static_cast<double>(x.dim(-2)), 1, wide).reshape({x.dim(-2), 1});
  const Tensor columns = arange(0, static_cast<double>(x.dim(-1)), 1, wide);
  const Tensor diagonal = rows + static_cast<double>(std::clamp<int64_t>(k, -x.dim(-2), x.dim(-1)));
  return where(lower ? less_equal(columns, diagonal) : greater_equal(columns, diagonal), x, 0);
}

}  // namespace

Tensor tril(const Tensor& x, int64_t k) { return triangle("tril", x, k, true); }
Tensor triu(const Tensor& x, int64_t k) { return triangle("triu", x, k, false); }

}  // namespace mica
