# The commands of everyday work; `make help` lists them. Each builds one preset of CMakePresets.json in build/<preset>.
.DEFAULT_GOAL := help
.PHONY: help mnist fashion_cnn linear_regression tabular memory test test-full fuzz bench compare asan tsan cuda \
        gpu-check format check-format install-deps clean
# The recipes of one target run in order, and Ctrl-C reaches the program itself.
.NOTPARALLEL:

DEPS := tools/install_deps.sh
BUILD := tools/build.sh
CTEST := ctest -j $(or $(JOBS),$(shell nproc))

help:  ## list these commands
	@sed -n 's/^\([a-z][a-z_-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{printf "  make %-18s %s\n", $$1, $$2}'
	@echo
	@echo 'What is missing is installed with apt-get first (MICA_INSTALL=0 only says what is missing).'
	@echo 'ARGS="..." goes to the program, CMAKE_ARGS="-D..." to cmake, JOBS=N limits how many run at once.'

mnist:  ## train a network on MNIST (make mnist DEVICE=cuda; ARGS="--epochs 1"; ARGS=--help lists the options)
	@$(DEPS) build mnist
	@$(if $(filter cuda%,$(DEVICE)),CMAKE_ARGS="-DMICA_CUDA=ON $(CMAKE_ARGS)") $(BUILD) release mnist
	@build/release/examples/mnist $(if $(DEVICE),--device $(DEVICE)) $(ARGS)

fashion_cnn:  ## train a deeper network on Fashion-MNIST, with augmented images (a quarter of an hour on 2 cores)
	@$(DEPS) build mnist $(if $(findstring --data,$(ARGS)),,fashion)
	@$(BUILD) release fashion_cnn
	@build/release/examples/fashion_cnn $(ARGS)

linear_regression:  ## fit a line by gradient descent, the smallest example
	@$(DEPS) build mnist
	@$(BUILD) release linear_regression
	@build/release/examples/linear_regression $(ARGS)

tabular:  ## learn from a CSV file who repays a loan, with cross-validation (ARGS=--help lists the options)
	@$(DEPS) build mnist
	@$(BUILD) release tabular
	@build/release/examples/tabular $(ARGS)

memory:  ## see how far RNN, LSTM, GRU and attention remember, on two tasks (ten minutes; ARGS=--help lists the options)
	@$(DEPS) build mnist
	@$(BUILD) release memory
	@build/release/examples/memory $(ARGS)

test:  ## build and run the tests
	@$(DEPS) build mnist test
	@$(BUILD) release
	@$(CTEST) --preset release $(ARGS)

test-full:  ## the tests and the long proofs (accuracies, 200 kills, huge tensors; an hour of fuzzing each file format)
	@$(DEPS) build mnist fashion test fuzz
	@$(BUILD) release
	@MICA_TEST_FULL=1 $(CTEST) --preset release -C Full $(ARGS)
	@$(BUILD) fuzz
	@tests/fuzz/run.sh build/fuzz $(or $(SECONDS),3600)

fuzz:  ## feed broken files to each loader (make fuzz SECONDS=30 for each; clang's libFuzzer)
	@$(DEPS) build test fuzz
	@$(BUILD) fuzz
	@tests/fuzz/run.sh build/fuzz $(or $(SECONDS),30)

bench:  ## build and run the benchmarks (make bench ARGS="--benchmark_filter=conv")
	@$(DEPS) build bench
	@$(BUILD) bench mica_bench mica_step mica_device
	@build/bench/benchmarks/mica_bench $(ARGS)

compare:  ## compare with PyTorch, Keras, JAX, ONNX Runtime and others (WORKLOADS="cnn lstm"; ARGS=--help)
	@$(DEPS) build mnist bench $(if $(PYTHON_ENV),,compare)
	@$(BUILD) bench mica_step
	@$(BUILD) release mnist
	@$(if $(PYTHON_ENV),,benchmarks/compare/environment.sh build/compare/venv)
	@$(or $(PYTHON_ENV),build/compare/venv)/bin/python benchmarks/compare/compare.py \
	  $(if $(WORKLOADS),--workloads $(WORKLOADS)) $(ARGS)

asan:  ## run the tests under the address and undefined-behaviour sanitizers
	@$(DEPS) build test asan
	@$(BUILD) asan
	@$(CTEST) --preset asan $(ARGS)

tsan:  ## run the threaded tests under the thread sanitizer (clang)
	@$(DEPS) build test tsan
	@$(BUILD) tsan
	@$(CTEST) --preset tsan $(ARGS)

gpu-check:  ## build for this machine's GPU, run the tests, compute-sanitizer and benchmarks on it (STAGES="build test")
	@tools/gpu_check.sh $(STAGES)

cuda:  ## build with the CUDA kernels (needs nvcc) and run the tests
	@$(DEPS) build mnist test
	@$(BUILD) cuda
	@$(CTEST) --preset cuda $(ARGS)

format:  ## format the sources as .clang-format says
	@$(DEPS) format
	@tools/format.sh

check-format:  ## check that the sources are formatted
	@$(DEPS) format
	@tools/format.sh --check

install-deps:  ## install what everything above needs, ccache included
	@$(DEPS) build mnist fashion test bench asan tsan fuzz format compare ccache

clean:  ## remove build/
	rm -rf build
