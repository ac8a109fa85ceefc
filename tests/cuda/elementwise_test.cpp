// Elementwise kernels of CUDA, copies, comparisons and augmentation, where the tests of the ops do not come: results of
// several blocks, operands that are not aligned, each way to walk and to copy.
#define MICA_EMULATED
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "cuda/strided.h"
#include "cuda/trigonometry.h"
#include "kernels/kernels.h"
#include "mica/core/stream.h"
#include "support/devices.h"
#include "support/pinned.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::kernels;
using test::Pinned;

namespace {

// Some elements of the dtype, small integers in value, from `skip` elements behind an aligned address on.
class Buffer {
 public:
  Buffer(DType dtype, int64_t n, int skip = 0, int salt = 0)
      : bytes_(static_cast<size_t>(n + skip) * size_of(dtype)), memory_(static_cast<int64_t>(bytes_) + 1),
        dtype_(dtype), skip_(skip) {
    std::minstd_rand random(static_cast<unsigned>(salt + 1));
    for (int64_t i = 0; i < n + skip; ++i) {
      const int value = static_cast<int>(random() % 9) + 1;
      switch (dtype) {
        case DType::float32: at<float>()[i] = static_cast<float>(value); break;
        case DType::float64: at<double>()[i] = value; break;
        case DType::bfloat16: at<BFloat16>()[i] = BFloat16(static_cast<float>(value)); break;
        case DType::int32: at<int32_t>()[i] = value; break;
        case DType::int64: at<int64_t>()[i] = value; break;
        case DType::uint8: at<uint8_t>()[i] = static_cast<uint8_t>(value); break;
      }
    }
  }
  void* data(int64_t offset = 0) { return at<char>() + static_cast<size_t>(offset + skip_) * size_of(dtype_); }
  template <class T>
  T* as() {
    return static_cast<T*>(data());
  }
  bool operator==(const Buffer& other) const {
    return test::same_elements(dtype_, memory_.data(), other.memory_.data(), bytes_);
  }

 private:
  template <class T>
  T* at() {
    return reinterpret_cast<T*>(memory_.data());
  }
  size_t bytes_;
  Pinned<uint8_t> memory_;
  DType dtype_;
  int skip_;
};

// Whether run(kernels, context, y) leaves the same bits in y on each device.
template <class Run>
test::Verdict same(const Buffer& y, const Run& run) {
  const auto on = [&](Device device) {
    Buffer result = y;
    Context ctx = context(device);
    run(kernels_for(device), ctx, result);
    synchronize(device);
    return result;
  };
  const Buffer expected = on(Device::cpu());
  for (const Device device : test::cuda_devices())
    if (!(on(device) == expected)) return {"they differ on " + to_string(device)};
  return {};
}

// Sizes around a pack, a block's packs, and some blocks.
constexpr int64_t kSizes[] = {0, 1, 3, 4, 1023, 1024, 1025, 5000};

StridedDims dims_of(std::vector<int64_t> size, std::vector<int64_t> a, std::vector<int64_t> b) {
  StridedDims dims;
  dims.rank = static_cast<int>(size.size());
  for (size_t i = 0; i < size.size(); ++i) {
    dims.size[i] = size[i];
    dims.a_stride[i] = a[i];
    dims.b_stride[i] = b[i];
  }
  return dims;
}

}  // namespace

TEST_CASE("cuda: elementwise: any size, aligned or not, in place") {
  for (int64_t n : kSizes)
    for (int skip : {0, 1}) {
      CAPTURE(n);
      CAPTURE(skip);
      for (DType dtype : {float32, float64}) {
        Buffer x(dtype, n, skip, 1), y(dtype, n, 0, 2), z(dtype, n, skip, 3);
        CHECK(same(y, [&](auto& k, Context& c, Buffer& out) {
          k.unary(c, UnaryOp::square, dtype, n, x.data(), out.data());
          k.unary(c, UnaryOp::negative, dtype, n, out.data(), out.data());
          k.accumulate(c, dtype, n, x.data(), out.data());
        }));
        CHECK(same(z, [&](auto& k, Context& c, Buffer& out) {
          k.unary_gradient(c, UnaryOp::square, dtype, n, x.data(), y.data(), out.data(), Write::accumulate);
        }));
        CHECK(same(y, [&](auto& k, Context& c, Buffer& out) {
          k.random_uniform(c, dtype, n, 0, 1, {7, 8}, out.data());
          k.dropout(c, dtype, n, 0.25, {5, 6}, out.data(), out.data());
        }));
        CHECK(same(z, [&](auto& k, Context& c, Buffer& out) {
          k.random_uniform(c, dtype, n, 0, 1, {7, 8}, out.data());
          k.dropout(c, dtype, n, 0.25, {5, 6}, x.data(), out.data());
        }));
      }
      for (DType to : {float32, float64, bfloat16, int32, int64, uint8}) {
        CHECK(same(Buffer(to, n, skip), [&](auto& k, Context& c, Buffer& out) { k.fill(c, to, n, 3, out.data()); }));
        for (DType from : {float32, float64, bfloat16, int32, int64, uint8}) {
          Buffer x(from, n, skip, 4);
          for (double scale : {1.0, -0.5})
            CHECK(same(Buffer(to, n), [&](auto& k, Context& c, Buffer& out) {
              k.cast(c, n, from, x.data(), to, scale, scale == 1 ? 0 : 8, out.data());
            }));
        }
      }
    }
}

TEST_CASE("cuda: cast: what saturates, and what has more digits than the target") {
  const double inf = HUGE_VAL;
  const Pinned<double> x({0.0,    -0.0,         0.5,      -0.5,         2.9,          -2.9,          254.9,
                          255.5,  256,          -1,       2147483647.0, 2147483648.0, -2147483648.0, -2147483649.0,
                          0x1p62, 0x1p63,       -0x1p63,  -0x1p64,      1e300,        -1e300,        inf,
                          -inf,   std::nan(""), 16777217, 1e-40,        257.5,        0x1.01p0,      0x1.03p0});
  const int64_t n = x.size();
  Pinned<float> narrow(n);
  for (int64_t i = 0; i < n; ++i) narrow[i] = static_cast<float>(x[i]);
  const Pinned<int64_t> wide({0, -1, 255, 256, INT32_MAX, int64_t{INT32_MAX} + 1, INT32_MIN, INT64_MAX, INT64_MIN,
                              (int64_t{1} << 53) + 1, (int64_t{1} << 61) + (int64_t{1} << 37) + 1, 16777217});
  const int64_t m = wide.size();
  for (DType to : {float32, float64, bfloat16, int32, int64, uint8}) {
    CHECK(same(Buffer(to, n),
               [&](auto& k, Context& c, Buffer& out) { k.cast(c, n, float64, x.data(), to, 1, 0, out.data()); }));
    CHECK(same(Buffer(to, n),
               [&](auto& k, Context& c, Buffer& out) { k.cast(c, n, float32, narrow.data(), to, 1, 0, out.data()); }));
    CHECK(same(Buffer(to, m),
               [&](auto& k, Context& c, Buffer& out) { k.cast(c, m, int64, wide.data(), to, 1, 0, out.data()); }));
  }
}

TEST_CASE("cuda: binary, compare, select: each way that operands lie") {
  const struct {
    const char* text;
    StridedDims dims;
  } layouts[] = {
      {"the same", dims_of({2500}, {1}, {1})},
      {"a number", dims_of({2500}, {1}, {0})},
      {"nothing", dims_of({0, 4}, {4, 1}, {0, 1})},
      {"rows of packs", dims_of({300, 16}, {16, 1}, {0, 1})},
      {"columns", dims_of({300, 16}, {0, 1}, {1, 0})},
      {"odd rows", dims_of({301, 7}, {7, 1}, {0, 1})},
      {"rows apart", dims_of({100, 16}, {16, 1}, {17, 1})},
      {"four axes", dims_of({5, 8, 6, 16}, {8, 1, 0, 0}, {0, 16, 0, 1})},
      {"backwards", dims_of({100, 16}, {1, 100}, {16, -1})},
  };
  for (const auto& layout : layouts)
    for (int skip : {0, 1}) {
      CAPTURE(layout.text);
      CAPTURE(skip);
      const int64_t n = layout.dims.rank == 1 && layout.dims.size[0] == 0 ? 0 : 5 * 8 * 6 * 16 + 5000;
      for (DType dtype : {float32, float64, int32, int64}) {
        Buffer a(dtype, n, 0, 1), b(dtype, n, skip, 2), dy(dtype, n, 0, 3);
        const int64_t b_first = layout.dims.b_stride[layout.dims.rank - 1] < 0 ? 15 : 0;
        for (BinaryOp op : {BinaryOp::subtract, BinaryOp::divide, BinaryOp::maximum})
          CHECK(same(Buffer(dtype, n, skip), [&](auto& k, Context& c, Buffer& y) {
            k.binary(c, op, dtype, layout.dims, a.data(), b.data(b_first), y.data());
          }));
        CHECK(same(Buffer(uint8, n, skip), [&](auto& k, Context& c, Buffer& y) {
          k.compare(c, CompareOp::less, dtype, layout.dims, a.data(), b.data(b_first), y.as<uint8_t>());
        }));
        if (is_floating(dtype))
          for (int operand : {0, 1})
            CHECK(same(Buffer(dtype, n), [&](auto& k, Context& c, Buffer& dx) {
              k.binary_gradient(c, BinaryOp::multiply, operand, dtype, layout.dims, a.data(), b.data(b_first),
                                dy.data(), dx.data());
            }));
      }
      Pinned<uint8_t> condition(n + 1);
      for (int64_t i = 0; i < condition.size(); ++i) condition[i] = i % 3 == 0;
      for (DType dtype : {uint8, bfloat16, float32, int64}) {
        Buffer a(dtype, n, 0, 1), b(dtype, n, skip, 2);
        const int64_t b_first = layout.dims.b_stride[layout.dims.rank - 1] < 0 ? 15 : 0;
        CHECK(same(Buffer(dtype, n), [&](auto& k, Context& c, Buffer& y) {
          k.select(c, dtype, layout.dims, condition.data() + skip, a.data(), b.data(b_first), y.data());
        }));
      }
    }
}

TEST_CASE("cuda: binary: an operand may be the result") {
  Buffer b(float32, 5000, 0, 2);
  CHECK(same(Buffer(float32, 5000, 0, 1), [&](auto& k, Context& c, Buffer& y) {
    k.binary(c, BinaryOp::subtract, float32, dims_of({5000}, {1}, {1}), y.data(), b.data(), y.data());
    k.binary(c, BinaryOp::subtract, float32, dims_of({500, 10}, {0, 1}, {10, 1}), b.data(), y.data(), y.data());
  }));
}

TEST_CASE("cuda: copy: each way that source and target lie") {
  const struct {
    const char* text;
    StridedDims dims;
    int64_t x_first = 0, y_first = 0;
  } layouts[] = {
      {"side by side", dims_of({3001}, {1}, {1})},
      {"pairs, fours", dims_of({100, 12}, {24, 1}, {12, 1})},
      {"odd rows", dims_of({100, 7}, {9, 1}, {7, 1})},
      {"into odd rows", dims_of({100, 7}, {7, 1}, {9, 1})},
      {"every other one", dims_of({1500}, {2}, {1})},
      {"into every other one", dims_of({1500}, {1}, {2})},
      {"repeated", dims_of({90, 32}, {1, 0}, {32, 1})},
      {"transposed", dims_of({33, 70}, {1, 33}, {70, 1})},
      {"transposed, written in the order of x", dims_of({70, 33}, {33, 1}, {1, 70})},
      {"transposed between", dims_of({3, 33, 2, 40}, {2640, 1, 1320, 33}, {2640, 80, 40, 1})},
      {"transposed into a window", dims_of({33, 40}, {1, 33}, {48, 1})},
      {"few columns", dims_of({3, 900}, {1, 3}, {900, 1})},
      {"backwards", dims_of({50, 40}, {40, 1}, {-40, -1}), 0, 1999},
      {"transposed backwards", dims_of({40, 50}, {-1, -40}, {50, 1}), 1999, 0},
      {"one", dims_of({1}, {1}, {1})},
      {"ones", dims_of({1, 1, 5}, {7, 8, 1}, {-9, 10, 1})},
      {"nothing", dims_of({4, 0}, {1, 1}, {1, 1})},
  };
  for (const auto& layout : layouts)
    for (int skip : {0, 1})
      for (DType dtype : {uint8, bfloat16, float32, float64}) {
        CAPTURE(layout.text);
        CAPTURE(skip);
        CAPTURE(dtype);
        Buffer x(dtype, 9000, skip, 1);
        for (Write write : {Write::overwrite, Write::accumulate}) {
          if (write == Write::accumulate && size_of(dtype) < 4) continue;
          CHECK(same(Buffer(dtype, 9000, 0, 2), [&](auto& k, Context& c, Buffer& y) {
            k.copy(c, dtype, layout.dims, x.data(layout.x_first), y.data(layout.y_first), write);
          }));
        }
      }
}

TEST_CASE("emulated walks: what is too long for one launch is cut, and every element is in one part") {
  using emulated::for_parts;
  const struct {
    StridedDims dims;
    int64_t parts;
  } walks[] = {
      {dims_of({int64_t{1} << 30}, {1}, {0}), 1},
      {dims_of({(int64_t{1} << 30) + 1}, {1}, {0}), 2},
      {dims_of({int64_t{5} << 30}, {0}, {1}), 8},
      {dims_of({3, 5, int64_t{1} << 30}, {0, 0, 1}, {int64_t{5} << 30, int64_t{1} << 30, 1}), 15},
      {dims_of({3, 4}, {1, 3}, {int64_t{1} << 40, -(int64_t{1} << 35)}), 12},
      {dims_of({3, 0}, {1, 3}, {0, 0}), 0},
  };
  for (const auto& walk : walks) {
    int64_t parts = 0, next = 0;
    for_parts(walk.dims, [&](const StridedDims& part, int64_t first, int64_t a, int64_t b) {
      ++parts;
      CHECK(first == next);
      next += emulated::count_of(part);
      int64_t rest = first, at_a = 0, at_b = 0;
      for (int i = walk.dims.rank - 1; i >= 0; --i) {
        at_a += rest % walk.dims.size[i] * walk.dims.a_stride[i];
        at_b += rest % walk.dims.size[i] * walk.dims.b_stride[i];
        rest /= walk.dims.size[i];
      }
      CHECK(a == at_a);
      CHECK(b == at_b);
    });
    CHECK(parts == walk.parts);
    CHECK(next == emulated::count_of(walk.dims));
  }
}

TEST_CASE("cuda: random_normal: as on the CPU, within rounding") {
  const int64_t n = 5003;
  Pinned<float> expected(n), y(n);
  test::for_each_device([&](Device device) {
    Context ctx = context(device);
    Pinned<float>& to = device == Device::cpu() ? expected : y;
    kernels_for(device).random_normal(ctx, float32, n, 1, 2, {1, 2}, to.data());
    synchronize(device);
    for (int64_t i = 0; i < n; ++i) REQUIRE(std::abs(to[i] - expected[i]) <= 4e-6f);
  });
}

TEST_CASE("emulated sine and cosine: of arguments of any size") {
  using namespace emulated;
  std::mt19937_64 random(1);
  double worst64 = 0, worst32 = 0;  // in units of the last place of 1, or of the result where it is smaller
  const auto error = [](long double actual, long double wanted, long double epsilon) {
    return static_cast<double>(std::fabs(actual - wanted) / (std::fabs(wanted) * epsilon));
  };
  for (int i = 0; i < 200000; ++i) {
    uint64_t bits = random();
    double x;
    if (i % 2 == 0) bits = (bits & 0x800fffffffffffff) | (uint64_t{1013} + bits % 44) << 52;  // up to 2^34
    std::memcpy(&x, &bits, 8);
    if (!std::isfinite(x)) continue;
    worst64 = std::max(worst64, error(sine_of(quarter_turns(x)), std::sin(x), 0x1p-53));
    worst64 = std::max(worst64, error(cosine_of(quarter_turns(x)), std::cos(x), 0x1p-53));
    const float f = static_cast<float>(x);
    if (!std::isfinite(f) || std::abs(f) < 1e-30f) continue;
    worst32 = std::max(worst32, error(sine_of(quarter_turns(f)), std::sin(static_cast<double>(f)), 0x1p-24));
    worst32 = std::max(worst32, error(cosine_of(quarter_turns(f)), std::cos(static_cast<double>(f)), 0x1p-24));
  }
  CHECK(worst64 < 4);
  CHECK(worst32 < 4);
  // The float64 next to a multiple of pi / 2: Kahan, "Minimizing q*m - n", 1983.
  const double nearest = 6381956970095103.0 * 0x1p797;
  CHECK(cosine_of(quarter_turns(nearest)) == doctest::Approx(std::cos(nearest)).epsilon(1e-15));
  CHECK(sine_of(quarter_turns(nearest)) == std::sin(nearest));
  for (double x : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    CHECK(std::isnan(sine_of(quarter_turns(x))));
    CHECK(std::isnan(cosine_of(quarter_turns(static_cast<float>(x)))));
  }
  CHECK(std::signbit(sine_of(quarter_turns(-0.0))));
}

TEST_CASE("cuda: crop2d, flip2d: pixels of any size, windows beyond the image") {
  const Pinned<int64_t> rows({0, 2, -3, 100, INT64_MAX, INT64_MIN}), columns({0, -2, 3, 1, 0, INT64_MIN});
  const Pinned<uint8_t> vertical({0, 1, 0, 1, 1, 0}), horizontal({0, 0, 1, 1, 0, 1});
  for (DType dtype : {uint8, bfloat16, float32, float64})
    for (int64_t c : {1, 3, 4, 16})
      for (int skip : {0, 1}) {
        CAPTURE(dtype);
        CAPTURE(c);
        CAPTURE(skip);
        Buffer x(dtype, 6 * 13 * 11 * c, skip, 1);
        for (int64_t sign : {1, -1})
          CHECK(same(Buffer(dtype, 6 * 9 * 14 * c, 0, 2), [&](auto& k, Context& ctx, Buffer& y) {
            k.crop2d(ctx, {dtype, 6, 13, 11, c, 9, 14, sign}, rows.data(), columns.data(), x.data(), y.data());
          }));
        for (bool both : {true, false})
          CHECK(same(Buffer(dtype, 6 * 13 * 11 * c, 0, 2), [&](auto& k, Context& ctx, Buffer& y) {
            k.flip2d(ctx, {dtype, 6, 13, 11, c, 13, 11}, both ? vertical.data() : nullptr, horizontal.data(), x.data(),
                     y.data());
          }));
      }
}
