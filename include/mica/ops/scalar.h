// The scalar functions: one functor each, from which the CPU loop, the CUDA kernel, the gradient check and the
// benchmark all come. Adding one: write its functor, add its line to the list below the functors.
#pragma once

#include "mica/ops/scalar_binary.h"
#include "mica/ops/scalar_unary.h"
