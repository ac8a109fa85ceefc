// Printing: what NumPy 2.4 prints, character for character. The expected texts are NumPy's own.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <sstream>

#include "mica/core/tensor.h"

using namespace mica;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

template <class T>
Tensor of(const std::vector<T>& values, const Shape& shape) {
  return tensor(values, shape);
}

struct Printed {
  Tensor tensor;
  const char* text;
};

void check_all(const std::vector<Printed>& cases) {
  for (const Printed& c : cases) CHECK(to_string(c.tensor) == c.text);
}

}  // namespace

TEST_CASE("print: integers stand to the right of their column") {
  check_all({
      {of<int32_t>({1, 2, 3}, {3}), "[1 2 3]"},
      {of<int64_t>({1, -20, 300}, {3}), "[  1 -20 300]"},
      {of<uint8_t>({0, 7, 255}, {3}), "[  0   7 255]"},
      {of<int64_t>({INT64_MIN, 9223372036854775807}, {2}), "[-9223372036854775808  9223372036854775807]"},
      {of<int32_t>({1, -20, 3, 4}, {2, 2}), R"([[  1 -20]
 [  3   4]])"},
      {of<int64_t>({5}, {1, 1, 1}), "[[[5]]]"},
  });
}

TEST_CASE("print: floats show as few decimals as tell them apart, eight at most, points below each other") {
  check_all({
      {of<float>({1.0f, 2.0f, 3.0f}, {3}), "[1. 2. 3.]"},
      {of<float>({0.5f, -1.25f, 10.0f}, {3}), "[ 0.5  -1.25 10.  ]"},
      {of<float>({static_cast<float>(0.1), static_cast<float>(0.2), static_cast<float>(0.3)}, {3}), "[0.1 0.2 0.3]"},
      {of<float>({static_cast<float>(0.3333333333333333), static_cast<float>(0.6666666666666666)}, {2}),
       "[0.33333334 0.6666667 ]"},
      {of<double>({0.3333333333333333, 0.6666666666666666}, {2}), "[0.33333333 0.66666667]"},
      {of<float>({-0.0f, 0.0f}, {2}), "[-0.  0.]"},
      {of<double>({0.123456789012}, {1}), "[0.12345679]"},
      {of<float>({1.0f, 0.125f, 100.5f, -3.0f}, {2, 2}), R"([[  1.      0.125]
 [100.5    -3.   ]])"},
      {of<float>({999999.0f, 1000.0f}, {2}), "[999999.   1000.]"},
      {of<double>({12345678.0, 99999.0}, {2}), "[12345678.    99999.]"},
  });
}

TEST_CASE("print: exponents where magnitudes are large, small or far apart") {
  check_all({
      {of<float>({1000000.0f, 1.0f}, {2}), "[1.e+06 1.e+00]"},
      {of<double>({100000000.0, 100000000.0}, {2}), "[1.e+08 1.e+08]"},
      {of<float>({static_cast<float>(1e-05)}, {1}), "[1.e-05]"},
      {of<float>({static_cast<float>(0.0001), 1.0f}, {2}), "[1.e-04 1.e+00]"},
      {of<float>({static_cast<float>(0.001), 1.5f}, {2}), "[1.0e-03 1.5e+00]"},
      {of<float>({static_cast<float>(0.001), 1.0f}, {2}), "[0.001 1.   ]"},
      {of<double>({1e-10, 10000000000.0}, {2}), "[1.e-10 1.e+10]"},
      {of<double>({1e-300, 1e+300}, {2}), "[1.e-300 1.e+300]"},
      {of<float>({static_cast<float>(15000000000.0), static_cast<float>(-2.25e-07), 0.0f}, {3}),
       "[ 1.50e+10 -2.25e-07  0.00e+00]"},
      {of<float>({16777216.0f, 67108872.0f}, {2}), "[1.6777216e+07 6.7108872e+07]"},
      {of<float>({static_cast<float>(1e-45), static_cast<float>(3.4028235e+38)}, {2}), "[1.4012985e-45 3.4028235e+38]"},
  });
}

TEST_CASE("print: nan and inf stand where numbers do") {
  check_all({
      {of<float>({kNaN, kInf, -kInf}, {3}), "[ nan  inf -inf]"},
      {of<float>({1.0f, kNaN}, {2}), "[ 1. nan]"},
      {of<float>({0.5f, -kInf, 100.25f}, {3}), "[  0.5    -inf 100.25]"},
      {of<float>({10000000000.0f, kNaN, -kInf}, {3}), "[1.e+10    nan   -inf]"},
      {of<double>({kNaN, kNaN}, {2, 1}), R"([[nan]
 [nan]])"},
  });
}

TEST_CASE("print: each further axis is a bracket, and an empty line between blocks") {
  check_all({
      {of<float>({1.0f, 2.0f, 3.0f, 4.0f}, {2, 2}), R"([[1. 2.]
 [3. 4.]])"},
      {of<int32_t>({0, 1, 2, 3, 4, 5, 6, 7}, {2, 2, 2}), R"([[[0 1]
  [2 3]]

 [[4 5]
  [6 7]]])"},
      {of<int64_t>({0, 1, 2, 3, 4, 5}, {1, 2, 1, 3}), R"([[[[0 1 2]]

  [[3 4 5]]]])"},
      {of<float>({1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f}, {2, 1, 2, 2}), R"([[[[1. 2.]
   [3. 4.]]]


 [[[5. 6.]
   [7. 8.]]]])"},
  });
}

TEST_CASE("print: nothing prints as []") {
  check_all({
      {of<float>({}, {0}), "[]"},
      {of<int64_t>({}, {3, 0}), "[]"},
      {of<float>({}, {0, 3}), "[]"},
  });
}

TEST_CASE("print: a scalar prints as a number does") {
  check_all({
      {of<float>({0.0f}, {}), "0.0"},
      {of<float>({1.0f}, {}), "1.0"},
      {of<float>({-2.5f}, {}), "-2.5"},
      {of<float>({static_cast<float>(0.1)}, {}), "0.1"},
      {of<float>({static_cast<float>(1e-05)}, {}), "1e-05"},
      {of<float>({123456.0f}, {}), "123456.0"},
      {of<float>({1000000.0f}, {}), "1e+06"},
      {of<float>({static_cast<float>(1e+20)}, {}), "1e+20"},
      {of<float>({kNaN}, {}), "nan"},
      {of<float>({-kInf}, {}), "-inf"},
      {of<double>({1000000000000000.0}, {}), "1000000000000000.0"},
      {of<double>({1e+16}, {}), "1e+16"},
      {of<double>({0.3333333333333333}, {}), "0.3333333333333333"},
      {of<int64_t>({-7}, {}), "-7"},
      {of<uint8_t>({200}, {}), "200"},
  });
}

TEST_CASE("print: long rows are wrapped at 75 columns") {
  check_all({
      {arange(0, 30), R"([ 0.  1.  2.  3.  4.  5.  6.  7.  8.  9. 10. 11. 12. 13. 14. 15. 16. 17.
 18. 19. 20. 21. 22. 23. 24. 25. 26. 27. 28. 29.])"},
      {arange(0, 60, 1, {int32}).reshape({2, 30}),
       R"([[ 0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19 20 21 22 23
  24 25 26 27 28 29]
 [30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53
  54 55 56 57 58 59]])"},
      {arange(0, 1, 0.0625), R"([0.     0.0625 0.125  0.1875 0.25   0.3125 0.375  0.4375 0.5    0.5625
 0.625  0.6875 0.75   0.8125 0.875  0.9375])"},
      {full({1, 1, 20}, 0.333, {float64}), R"([[[0.333 0.333 0.333 0.333 0.333 0.333 0.333 0.333 0.333 0.333 0.333
   0.333 0.333 0.333 0.333 0.333 0.333 0.333 0.333 0.333]]])"},
  });
}

TEST_CASE("print: more than 1,000 elements are summarised to three at each end of an axis") {
  check_all({
      {arange(0, 1001, 1, {int32}), "[   0    1    2 ...  998  999 1000]"},
      {arange(0, 2000), "[0.000e+00 1.000e+00 2.000e+00 ... 1.997e+03 1.998e+03 1.999e+03]"},
      {arange(0, 2000).reshape({2, 1000}), R"([[0.000e+00 1.000e+00 2.000e+00 ... 9.970e+02 9.980e+02 9.990e+02]
 [1.000e+03 1.001e+03 1.002e+03 ... 1.997e+03 1.998e+03 1.999e+03]])"},
      {arange(0, 2000, 1, {int64}).reshape({1000, 2}), R"([[   0    1]
 [   2    3]
 [   4    5]
 ...
 [1994 1995]
 [1996 1997]
 [1998 1999]])"},
      {arange(0, 4000, 1, {int32}).reshape({10, 20, 20}), R"([[[   0    1    2 ...   17   18   19]
  [  20   21   22 ...   37   38   39]
  [  40   41   42 ...   57   58   59]
  ...
  [ 340  341  342 ...  357  358  359]
  [ 360  361  362 ...  377  378  379]
  [ 380  381  382 ...  397  398  399]]

 [[ 400  401  402 ...  417  418  419]
  [ 420  421  422 ...  437  438  439]
  [ 440  441  442 ...  457  458  459]
  ...
  [ 740  741  742 ...  757  758  759]
  [ 760  761  762 ...  777  778  779]
  [ 780  781  782 ...  797  798  799]]

 [[ 800  801  802 ...  817  818  819]
  [ 820  821  822 ...  837  838  839]
  [ 840  841  842 ...  857  858  859]
  ...
  [1140 1141 1142 ... 1157 1158 1159]
  [1160 1161 1162 ... 1177 1178 1179]
  [1180 1181 1182 ... 1197 1198 1199]]

 ...

 [[2800 2801 2802 ... 2817 2818 2819]
  [2820 2821 2822 ... 2837 2838 2839]
  [2840 2841 2842 ... 2857 2858 2859]
  ...
  [3140 3141 3142 ... 3157 3158 3159]
  [3160 3161 3162 ... 3177 3178 3179]
  [3180 3181 3182 ... 3197 3198 3199]]

 [[3200 3201 3202 ... 3217 3218 3219]
  [3220 3221 3222 ... 3237 3238 3239]
  [3240 3241 3242 ... 3257 3258 3259]
  ...
  [3540 3541 3542 ... 3557 3558 3559]
  [3560 3561 3562 ... 3577 3578 3579]
  [3580 3581 3582 ... 3597 3598 3599]]

 [[3600 3601 3602 ... 3617 3618 3619]
  [3620 3621 3622 ... 3637 3638 3639]
  [3640 3641 3642 ... 3657 3658 3659]
  ...
  [3940 3941 3942 ... 3957 3958 3959]
  [3960 3961 3962 ... 3977 3978 3979]
  [3980 3981 3982 ... 3997 3998 3999]]])"},
      {arange(0, 2000, 1, {int32}).reshape({5, 100, 4}), R"([[[   0    1    2    3]
  [   4    5    6    7]
  [   8    9   10   11]
  ...
  [ 388  389  390  391]
  [ 392  393  394  395]
  [ 396  397  398  399]]

 [[ 400  401  402  403]
  [ 404  405  406  407]
  [ 408  409  410  411]
  ...
  [ 788  789  790  791]
  [ 792  793  794  795]
  [ 796  797  798  799]]

 [[ 800  801  802  803]
  [ 804  805  806  807]
  [ 808  809  810  811]
  ...
  [1188 1189 1190 1191]
  [1192 1193 1194 1195]
  [1196 1197 1198 1199]]

 [[1200 1201 1202 1203]
  [1204 1205 1206 1207]
  [1208 1209 1210 1211]
  ...
  [1588 1589 1590 1591]
  [1592 1593 1594 1595]
  [1596 1597 1598 1599]]

 [[1600 1601 1602 1603]
  [1604 1605 1606 1607]
  [1608 1609 1610 1611]
  ...
  [1988 1989 1990 1991]
  [1992 1993 1994 1995]
  [1996 1997 1998 1999]]])"},
  });
}

TEST_CASE("print: 1,000 elements are not summarised") {
  CHECK(to_string(zeros({1000})).find("...") == std::string::npos);
  CHECK(to_string(zeros({1001})).find("...") != std::string::npos);
}

TEST_CASE("print: bfloat16 shows the float32 that it is") {
  CHECK(to_string(tensor({0.5, 3.1415927}, {bfloat16})) == "[0.5      3.140625]");
}

TEST_CASE("print: a view prints what it shows") {
  const Tensor x = arange(0, 6).reshape({3, 2});
  CHECK(to_string(x[1]) == "[2. 3.]");
  CHECK(to_string(x.slice(1, 3)) == "[[2. 3.]\n [4. 5.]]");
}

TEST_CASE("print: a stream takes a tensor, and an undefined one says so") {
  std::ostringstream out;
  out << tensor({1, 2}) << ' ' << Tensor();
  CHECK(out.str() == "[1. 2.] undefined");
}
