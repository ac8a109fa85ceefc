// The test program. MICA_TEST_DEVICE=cuda-emulated (or cuda, where there is a GPU) is the default device, so that the
// tests of ops and layers run on its kernels.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>

#include "mica/core/error.h"
#include "support/devices.h"

int main(int argc, char** argv) {
  if (const char* name = std::getenv("MICA_TEST_DEVICE")) {
    try {
      mica::kernels::register_emulated();
      mica::set_default_device(mica::Device::named(name));
    } catch (const mica::Error& error) {
      std::fprintf(stderr, "MICA_TEST_DEVICE: %s\n", error.what());
      return 2;
    }
  }
  return doctest::Context(argc, argv).run();
}
