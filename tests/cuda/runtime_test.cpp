// Scratch memory of the CUDA kernels, in the emulation: whose it is, and when it is given back.
#define MICA_EMULATED
#include "cuda/core/runtime.h"

#include <doctest/doctest.h>

#include <cstdint>

#include "mica/core/device_memory.h"
#include "mica/core/stream.h"
#include "support/devices.h"
#include "support/error_text.h"

using namespace mica;
using mica::kernels::emulated::Scratch;
using mica::test::error_text;

TEST_CASE("scratch: memory of the device for as long as the scope, aligned to 256 bytes, not yet a number") {
  const Context ctx = context(test::emulated_device());
  const int64_t before = memory_statistics(ctx.device).in_use;
  {
    const Scratch scratch(ctx, 1001), nothing(ctx, 0);
    CHECK(reinterpret_cast<uintptr_t>(scratch.as<char>()) % 256 == 0);
    CHECK(scratch.as<float>(256) == scratch.as<float>() + 64);
    CHECK(scratch.as<float>()[249] != scratch.as<float>()[249]);
    CHECK(nothing.as<char>() == nullptr);
    CHECK(memory_statistics(ctx.device).in_use >= before + 1001);
  }
  CHECK(memory_statistics(ctx.device).in_use == before);
}

TEST_CASE("scratch: of the context's stream, which must be Mica's") {
  const Device device = test::emulated_device();
  const Stream stream = Stream::create(device);
  Context ctx{.device = device, .stream = stream.handle()};
  CHECK(Scratch(ctx, 1000).as<char>() != nullptr);
  int not_a_stream = 0;
  ctx.stream = &not_a_stream;
  CHECK(error_text([&] { Scratch(ctx, 1000); }) ==
        "[stream] work on cuda-emulated was put into a stream that is not Mica's");
}
