# The CPU kernels: src/cpu/*.cpp compiled once for each instruction-set level, in a namespace of its own; the best one
# that the processor has is chosen at run time (src/kernels/dispatch.cpp). Eigen's namespace is renamed at each level, so
# that an inline function of it compiled for one level can never serve another.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(MICA_CPU_LEVELS "baseline;avx2;avx512" CACHE STRING "Instruction-set levels of the CPU kernels, baseline among them")
else()
  set(MICA_CPU_LEVELS "baseline")
endif()
set(MICA_LEVEL_FLAGS_baseline "")
# What dispatch.cpp asks the processor for, and no more.
set(MICA_LEVEL_FLAGS_avx2 -mavx2 -mfma -mtune=znver3)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Tuning for Zen splits a multiply-add where it sees a chain of them: a row's bits then depend on the rows beside it.
  list(APPEND MICA_LEVEL_FLAGS_avx2 --param=avoid-fma-max-bits=0)
endif()
set(MICA_LEVEL_FLAGS_avx512 ${MICA_LEVEL_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd
                            -mprefer-vector-width=512)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND MICA_LEVEL_FLAGS_avx512 -Wno-maybe-uninitialized)  # g++ 12's own intrinsics header sets it off
endif()

file(GLOB MICA_CPU_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/cpu/*.cpp)
# At -O3 g++ makes a copy of each tile for every way through its last lines: ten times the code, and no faster.
set_source_files_properties(src/cpu/tile.cpp PROPERTIES COMPILE_OPTIONS -O2)
foreach(level ${MICA_CPU_LEVELS})
  add_library(mica_cpu_${level} OBJECT ${MICA_CPU_SOURCES})
  target_compile_features(mica_cpu_${level} PRIVATE cxx_std_20)
  target_compile_definitions(mica_cpu_${level} PRIVATE MICA_CPU_LEVEL=${level} Eigen=Eigen_${level})
  # Kernels are optimised in every build, as everybody runs on them. Traps and errno are off: they bar vectorising.
  target_compile_options(mica_cpu_${level} PRIVATE ${MICA_LEVEL_FLAGS_${level}} -O3 -fno-math-errno -fno-trapping-math
                                                   -ffp-contract=fast)
  target_include_directories(mica_cpu_${level} PRIVATE src include)
  target_link_libraries(mica_cpu_${level} PRIVATE mica_warnings Eigen3::Eigen)
  set_target_properties(mica_cpu_${level} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
                                                     POSITION_INDEPENDENT_CODE ON)
  target_sources(mica PRIVATE $<TARGET_OBJECTS:mica_cpu_${level}>)
  list(APPEND MICA_LEVEL_DEFINITIONS MICA_HAS_LEVEL_${level})
endforeach()
target_compile_definitions(mica PRIVATE ${MICA_LEVEL_DEFINITIONS})
