# The CUDA kernels: cuda/*.cu by nvcc into mica; and, for the tests, the same files as C++ into mica_emulated.
# Sets MICA_CUDA_FOUND, whether mica has CUDA; an installed static mica then needs CUDA::cudart_static of its user.
set(MICA_CUDA_ARCHITECTURES "90" CACHE STRING
    "GPU architectures to compile for, as in CMAKE_CUDA_ARCHITECTURES (make cuda: 80-real;86-real;89-real;90)")
set(MICA_CUDA_FOUND FALSE)

# Sets MICA_CUDA_FOUND, or leaves in `reason` why there is no CUDA.
macro(mica_find_cuda reason)
  set(${reason} "")
  find_program(MICA_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin
               DOC "NVIDIA's CUDA compiler")
  mark_as_advanced(MICA_NVCC)
  if(MICA_SANITIZE MATCHES "thread")
    set(${reason} "the thread sanitizer and CUDA do not go together")
  elseif(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND NOT MICA_NVCC)
    set(${reason} "nvcc was not found on PATH, in CUDA_PATH or in /usr/local/cuda: install NVIDIA's CUDA Toolkit, \
12.0 or newer, or set CUDACXX to its nvcc")
  else()
    if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
      set(ENV{CUDACXX} ${MICA_NVCC})
    endif()
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES ${MICA_CUDA_ARCHITECTURES})
    endif()
    # nvcc compiles the host's half with g++, whichever compiler builds the rest.
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT CMAKE_CUDA_HOST_COMPILER AND NOT DEFINED ENV{CUDAHOSTCXX})
      set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
    endif()
    include(CheckLanguage)
    check_language(CUDA)
    if(NOT CMAKE_CUDA_COMPILER)
      set(${reason} "nvcc was found, but does not compile with this host compiler (see CMakeFiles/CMakeError.log)")
    else()
      enable_language(CUDA)
      find_package(CUDAToolkit QUIET)
      if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
        set(${reason} "Mica is C++20 and needs CUDA 12.0 or newer, not ${CMAKE_CUDA_COMPILER_VERSION}")
      elseif(NOT TARGET CUDA::cudart_static)
        set(${reason} "the toolkit of ${CMAKE_CUDA_COMPILER} has no static runtime library (cudart_static)")
      else()
        set(MICA_CUDA_FOUND TRUE)
      endif()
    endif()
  endif()
endmacro()

string(TOUPPER "${MICA_CUDA}" mica_cuda_wanted)
if(mica_cuda_wanted STREQUAL "AUTO" OR MICA_CUDA)
  mica_find_cuda(mica_no_cuda)
  if(MICA_CUDA_FOUND)
    message(STATUS "Mica: CUDA ${CMAKE_CUDA_COMPILER_VERSION}, for ${MICA_CUDA_ARCHITECTURES}")
  elseif(mica_cuda_wanted STREQUAL "AUTO")
    message(STATUS "Mica: no CUDA: ${mica_no_cuda}")
  else()
    message(FATAL_ERROR "MICA_CUDA=${MICA_CUDA} asks for CUDA, but ${mica_no_cuda}. MICA_CUDA=OFF builds without it.")
  endif()
endif()

if(MICA_CUDA_FOUND)
  file(GLOB MICA_CUDA_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda/*.cu
       ${CMAKE_CURRENT_SOURCE_DIR}/cuda/core/*.cu)
  add_library(mica_cuda OBJECT ${MICA_CUDA_SOURCES})
  target_include_directories(mica_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} src include)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  set_target_properties(mica_cuda PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON
                                             CUDA_ARCHITECTURES "${MICA_CUDA_ARCHITECTURES}"
                                             CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
                                             POSITION_INDEPENDENT_CODE ON)
  # What MICA_SANITIZE adds to everything is not nvcc's to read: its host compiler gets it, one -Xcompiler each, as nvcc
  # splits at commas.
  set_property(TARGET mica_cuda PROPERTY COMPILE_OPTIONS "")
  if(MICA_SANITIZE)
    string(REPLACE "," ";" mica_sanitizers "${MICA_SANITIZE}")
    foreach(sanitizer ${mica_sanitizers})
      target_compile_options(mica_cuda PRIVATE -Xcompiler=-fsanitize=${sanitizer})
    endforeach()
    target_compile_options(mica_cuda PRIVATE -Xcompiler=-fno-omit-frame-pointer)
  endif()
  # A kernel that spills registers or reaches for local memory is slow for a reason that nobody sees in its source.
  target_compile_options(mica_cuda PRIVATE -Xptxas=-v,--warn-on-spills,--warn-on-local-memory-usage
                                           -Xcompiler=-Wall,-Wextra,-Wshadow
                                           "$<$<BOOL:${MICA_WERROR}>:SHELL:-Werror all-warnings>")
  # What -v says goes into files, which tools/cuda_budget.py compares with cuda/budget.txt.
  set_property(TARGET mica_cuda PROPERTY CUDA_COMPILER_LAUNCHER ${CMAKE_CURRENT_SOURCE_DIR}/tools/nvcc_log.sh
                                         ${CMAKE_CUDA_COMPILER_LAUNCHER})
  target_sources(mica PRIVATE $<TARGET_OBJECTS:mica_cuda>)
  # Of these files alone, so that a compiler cache serves the others to builds with CUDA and without.
  set_property(SOURCE src/core/device_runtime.cpp src/kernels/dispatch.cpp
               APPEND PROPERTY COMPILE_DEFINITIONS MICA_HAS_CUDA)
  # The static runtime loads the driver when it is first called: the same program runs where there is none.
  target_link_libraries(mica PRIVATE CUDA::cudart_static)
  set_target_properties(mica PROPERTIES LINKER_LANGUAGE CXX)
endif()

# The shadow of the emulation (cuda/core/shadow.h): with these options g++ calls a function at each access to memory. They
# are for files with kernels, and never reach the linker, since the functions are ours. Sanitizers have their own.
set(MICA_SHADOW_OPTIONS "")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT MICA_SANITIZE AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize"
   AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64" AND CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(MICA_SHADOW_OPTIONS -fsanitize=thread)
  if(CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 12)
    list(APPEND MICA_SHADOW_OPTIONS --param=tsan-instrument-func-entry-exit=0)
  endif()
endif()

if(MICA_BUILD_TESTS)
  add_subdirectory(cuda)  # mica_emulated
endif()
