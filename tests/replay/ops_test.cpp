// PyTorch's own samples of the functions that Mica has too (tests/golden/opinfo), replayed, forward and gradients.
#include "mica/ops/compare.h"
#include "mica/ops/conv.h"
#include "mica/ops/einsum.h"
#include "mica/ops/index.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/matmul.h"
#include "mica/ops/norm.h"
#include "mica/ops/pool.h"
#include "mica/ops/resize.h"
#include "mica/ops/softmax.h"
#include "replay/samples.h"

using namespace mica;
using namespace mica::test;
using namespace mica::test::samples;

namespace {

Table elementwise() {
  Table table;
#define MICA_ENTRY(function, Functor) table[#function] = {[](const Sample& s) { return function(s.x[0]); }};
  MICA_UNARY_OPS(MICA_ENTRY)
#undef MICA_ENTRY
#define MICA_ENTRY(function, Functor)                                                   \
  table[#function] = {[](const Sample& s) {                                             \
    if (!s.c.has("number")) return function(s.x[0], s.x[1]);                            \
    const double number = s.c.number("number");                                         \
    return s.c.flag("reflected") ? function(number, s.x[0]) : function(s.x[0], number); \
  }};
  MICA_BINARY_OPS(MICA_ENTRY)
  MICA_COMPARE_OPS(MICA_ENTRY)
#undef MICA_ENTRY
  table["power"].broadcast = kSums;  // its terms are large, and cancel
  table["logical_not"] = {[](const Sample& s) { return logical_not(s.x[0]); }};
  table["isnan"] = {[](const Sample& s) { return isnan(s.x[0]); }};
  table["isfinite"] = {[](const Sample& s) { return isfinite(s.x[0]); }};
  table["isinf"] = {[](const Sample& s) { return isinf(s.x[0]); }};
  table["clip"] = {[](const Sample& s) { return clip(s.x[0], s.c.number("low"), s.c.number("high")); }};
  table["clamp"] = {[](const Sample& s) {  // bounds that are tensors
    const Tensor low = s.at("low"), high = s.at("high");
    const Tensor above = low.defined() ? maximum(s.x[0], low) : s.x[0];
    return high.defined() ? minimum(above, high) : above;
  }};
  table["where"] = {[](const Sample& s) {
    if (s.c.has("number")) return where(s.at("condition"), s.c.number("number"), s.at("b"));
    return where(s.at("condition"), s.at("a"), s.at("b"));
  }};
  return table;
}

template <class Reduction>
Op reduction(const Reduction& reduce) {
  return {[reduce](const Sample& s) { return reduce(s.x[0], s.axes(), s.c.flag("keepdims")); }};
}

Table reductions() {
  return {
      {"sum", reduction(sum)},
      {"mean", reduction(mean)},
      {"prod", reduction(prod)},
      {"max", reduction(static_cast<Tensor (*)(const Tensor&, const Axes&, bool)>(max))},
      {"min", reduction(static_cast<Tensor (*)(const Tensor&, const Axes&, bool)>(min))},
      {"any", reduction(any)},
      {"all", reduction(all)},
      {"logsumexp", reduction(logsumexp)},
      {"var", {[](const Sample& s) { return var(s.x[0], s.axes(), s.c.flag("keepdims"), s.count("ddof")); }}},
      {"stddev", {[](const Sample& s) { return stddev(s.x[0], s.axes(), s.c.flag("keepdims"), s.count("ddof")); }}},
      {"norm",
       {[](const Sample& s) { return norm(s.x[0], s.axes(), s.c.flag("keepdims"), std::stod(s.c.text("p"))); }}},
      {"argmax", {[](const Sample& s) { return argmax(s.x[0], s.axis()); }}},
      {"argmin", {[](const Sample& s) { return argmin(s.x[0], s.axis()); }}},
      {"cumsum", {[](const Sample& s) { return cumsum(s.x[0], s.axis()); }}},
      {"softmax", {[](const Sample& s) { return softmax(s.x[0]); }}},
      {"log_softmax", {[](const Sample& s) { return log_softmax(s.x[0]); }}},
  };
}

Table products() {
  return {
      {"matmul", {[](const Sample& s) { return matmul(s.x[0], s.x[1]); }, kSums}},
      {"dense", {[](const Sample& s) { return dense(s.x[0], s.x[1], s.at("b")); }, kSums}},
      {"einsum", {[](const Sample& s) { return einsum(s.c.text("equation"), s.x); }, kSums}},
  };
}

Table images() {
  return {
      {"conv2d",
       {[](const Sample& s) {
          return conv2d(bordered(s, 0), s.at("w"), s.at("b"),
                        {.strides = s.size("strides"),
                         .padding = padding_of(s),
                         .dilation = s.size("dilation"),
                         .groups = s.count("groups")});
        },
        kSums}},
      {"conv2d_transpose",
       {[](const Sample& s) {
          const std::vector<int64_t> crop = s.c.list("crop");
          return slice(conv2d_transpose(s.at("x"), s.at("w"), s.at("b"),
                                        {.strides = s.size("strides"), .dilation = s.size("dilation")}),
                       {{}, {crop[0], crop[1]}, {crop[2], crop[3]}});
        },
        kSums}},
      {"max_pool2d", {[](const Sample& s) {
         return max_pool2d(bordered(s, -INFINITY), s.size("window"),
                           {.strides = s.size("strides"), .padding = padding_of(s)});
       }}},
      {"average_pool2d", {[](const Sample& s) {
         return average_pool2d(bordered(s, 0), s.size("window"),
                               {.strides = s.size("strides"), .padding = padding_of(s)});
       }}},
      {"resize2d", {[](const Sample& s) {
         return resize2d(s.x[0], s.size("size"),
                         s.c.text("mode") == "nearest" ? Interpolation::nearest : Interpolation::bilinear);
       }}},
  };
}

Table norms() {
  return {
      {"batch_norm",
       {[](const Sample& s) { return batch_norm(s.x[0], s.at("gamma"), s.at("beta"), s.c.number("epsilon")).y; },
        kSums}},
      {"batch_norm_inference",
       {[](const Sample& s) {
          return batch_norm_inference(s.x[0], s.at("mean"), s.at("variance"), s.at("gamma"), s.at("beta"),
                                      s.c.number("epsilon"));
        },
        kSums}},
      {"layer_norm",
       {[](const Sample& s) { return layer_norm(s.x[0], s.at("gamma"), s.at("beta"), s.c.number("epsilon")); }, kSums}},
  };
}

Table indices() {
  return {
      {"embedding", {[](const Sample& s) { return embedding(s.x[0], s.x[1]); }}},
      {"gather", {[](const Sample& s) { return gather(s.x[0], s.x[1], s.axis()); }}},
      {"scatter_add", {[](const Sample& s) { return scatter_add(s.x[0], s.x[1], s.x[2], s.axis()); }}},
      {"take", {[](const Sample& s) { return take(s.x[0], s.x[1], s.axis()); }}},
      {"one_hot", {[](const Sample& s) { return one_hot(s.x[0], s.count("classes")); }}},
      {"sort", {[](const Sample& s) { return sort(s.x[0], s.axis(), {.descending = s.c.flag("descending")}); }}},
      {"argsort", {[](const Sample& s) { return argsort(s.x[0], s.axis(), {.descending = s.c.flag("descending")}); }}},
      {"top_k", {[](const Sample& s) { return top_k(s.x[0], s.count("k"), s.axis()).values; }}},
  };
}

Tensor all_parts(const Sample& s) {
  Tensors rows;
  for (const Tensor& part : split(s.x[0], s.c.list("sizes"), s.axis())) rows.push_back(part.reshape({-1}));
  return concat(rows);
}

Tensor padded(const Sample& s) {
  std::vector<PadWidth> widths;
  const std::vector<int64_t> flat = s.c.list("widths");
  for (size_t i = 0; i < flat.size(); i += 2) widths.push_back({flat[i], flat[i + 1]});
  const std::string mode = s.c.text("mode");
  return pad(s.x[0], widths,
             {mode == "edge"      ? PadMode::edge
              : mode == "reflect" ? PadMode::reflect
                                  : PadMode::constant,
              s.c.number("value")});
}

Tensor sliced(const Sample& s) {
  std::vector<Range> ranges;
  const std::vector<int64_t> flat = s.c.list("ranges");
  for (size_t i = 0; i < flat.size(); i += 3) ranges.push_back({flat[i], flat[i + 1], flat[i + 2]});
  return slice(s.x[0], ranges);
}

Tensor rolled(const Sample& s) {
  Tensor y = s.x[0];
  const std::vector<int64_t> shifts = s.c.list("shifts"), axes = s.c.list("axes");
  for (size_t i = 0; i < shifts.size(); ++i) y = roll(y, shifts[i], static_cast<int>(axes[i]));
  return y;
}

Tensor squeezed(const Sample& s) {
  Tensor y = s.x[0];
  for (const int64_t axis : s.c.list("axes")) y = squeeze(y, static_cast<int>(axis));
  return y;
}

Table manipulations() {
  return {
      {"concat", {[](const Sample& s) { return concat(s.x, s.axis()); }}},
      {"stack", {[](const Sample& s) { return stack(s.x, s.axis()); }}},
      {"split", {all_parts}},
      {"pad", {padded}},
      {"slice", {sliced}},
      {"roll", {rolled}},
      {"squeeze", {squeezed}},
      {"expand_dims", {[](const Sample& s) { return expand_dims(s.x[0], s.axis()); }}},
      {"flip", {[](const Sample& s) { return flip(s.x[0], s.axes()); }}},
      {"repeat", {[](const Sample& s) { return repeat(s.x[0], s.count("count"), s.axis()); }}},
      {"tile", {[](const Sample& s) { return tile(s.x[0], s.c.list("counts")); }}},
      {"broadcast_to", {[](const Sample& s) { return broadcast_to(s.x[0], s.shape()); }}},
      {"reshape", {[](const Sample& s) { return s.x[0].reshape(s.shape()); }}},
      {"transpose", {[](const Sample& s) { return transpose(s.x[0], s.axes()); }}},
      {"diagonal", {[](const Sample& s) { return diagonal(s.x[0], s.axis("axis1"), s.axis("axis2")); }}},
      {"tril", {[](const Sample& s) { return tril(s.x[0], s.count("k")); }}},
      {"triu", {[](const Sample& s) { return triu(s.x[0], s.count("k")); }}},
  };
}

Table creations() {
  return {
      {"arange", {[](const Sample& s) {
         return arange(s.c.number("start"), s.c.number("stop"), s.c.number("step"), {s.dtype});
       }}},
      {"linspace", {[](const Sample& s) {
         return linspace(s.c.number("start"), s.c.number("stop"), s.count("count"), {s.dtype});
       }}},
      {"eye", {[](const Sample& s) { return eye(s.count("rows"), s.count("columns"), 0, {s.dtype}); }}},
      {"full", {[](const Sample& s) { return full(s.shape(), s.c.number("value"), {s.dtype}); }}},
  };
}

}  // namespace

TEST_CASE("PyTorch's samples of tensors made of numbers") { replay_samples("create", 180, 0, creations()); }
TEST_CASE("PyTorch's samples of functions of each element") { replay_samples("elementwise", 274, 309, elementwise()); }
TEST_CASE("PyTorch's samples of reductions") { replay_samples("reduce", 259, 211, reductions()); }
TEST_CASE("PyTorch's samples of matrix products") { replay_samples("matmul", 48, 102, products()); }
TEST_CASE("PyTorch's samples of convolution, pooling and resizing") { replay_samples("image", 173, 237, images()); }
TEST_CASE("PyTorch's samples of normalization") { replay_samples("norm", 12, 32, norms()); }
TEST_CASE("PyTorch's samples of indexing and sorting") { replay_samples("index", 68, 50, indices()); }
TEST_CASE("PyTorch's samples of array operations") { replay_samples("manipulate", 272, 295, manipulations()); }
