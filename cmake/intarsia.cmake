# Flags for our own targets only, so that third-party code is not held to them.
add_library(intarsia_flags INTERFACE)
target_compile_options(intarsia_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wnon-virtual-dtor;-Wconversion>"
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>
  # Twice the size of all machine code for a device, and only a profiler reads them.
  $<$<AND:$<BOOL:${INTARSIA_CUDA_LINES}>,$<COMPILE_LANGUAGE:CUDA>>:-lineinfo>
  $<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=size>
  $<$<AND:$<BOOL:${INTARSIA_WERROR}>,$<COMPILE_LANGUAGE:CXX>>:-Werror>
  $<$<AND:$<BOOL:${INTARSIA_WERROR}>,$<COMPILE_LANGUAGE:CUDA>>:-Werror=all-warnings>)
# GCC 12 raises these without cause in inlined library code; the sanitizer presets find real ones.
foreach(warning array-bounds maybe-uninitialized restrict stringop-overflow stringop-overread)
  target_compile_options(intarsia_flags INTERFACE
    $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-error=${warning}>)
endforeach()
target_include_directories(intarsia_flags INTERFACE ${PROJECT_SOURCE_DIR})
if(INTARSIA_SANITIZER)
  set(sanitize -fsanitize=${INTARSIA_SANITIZER})
  target_compile_options(intarsia_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:${sanitize};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  target_link_options(intarsia_flags INTERFACE ${sanitize})
endif()

# intarsia_library(intarsia_storage SOURCES a.cc b.cc
#                  PUBLIC intarsia_base PRIVATE RocksDB::rocksdb)
function(intarsia_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_PUBLIC} intarsia_flags PRIVATE ${ARG_PRIVATE})
endfunction()

# intarsia_sm90_sources(intarsia_kernels attention_sm90.cu)
# Adds files that use what only sm_90a has (wgmma, TMA multicast), compiled for it alone. The host
# code that launches them asks for the device's compute capability first.
function(intarsia_sm90_sources library)
  add_library(${library}_sm90 OBJECT ${ARGN})
  set_target_properties(${library}_sm90 PROPERTIES CUDA_ARCHITECTURES 90a-real)
  target_link_libraries(${library}_sm90 PRIVATE intarsia_flags)
  target_sources(${library} PRIVATE $<TARGET_OBJECTS:${library}_sm90>)
endfunction()

# attention_merge_test.cc in tests/kernels gives kernels_attention_merge_test, unique in the build.
function(intarsia_name_after source result)
  file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  string(REGEX REPLACE "^(tests|bench)/" "" name ${path})
  string(REGEX REPLACE "\\.[a-z]+$" "" name ${name})
  string(REPLACE "/" "_" name ${name})
  set(${result} ${name} PARENT_SCOPE)
endfunction()

# intarsia_test(attention_merge_cuda_test.cc LINK intarsia_kernels LABELS gpu)
# A test without a label must finish in seconds: the unlabelled suite stays under a minute.
function(intarsia_test source)
  cmake_parse_arguments(ARG "" "" "LINK;LABELS" ${ARGN})
  intarsia_name_after(${source} name)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} intarsia_flags GTest::gtest GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  # A program that skipped every test has not passed; one with a failure beside has failed.
  set(skipped "\\[  SKIPPED \\][^\n]*\n")
  set_tests_properties(${name} PROPERTIES
    SKIP_REGULAR_EXPRESSION "\\[  PASSED  \\] 0 tests.\n${skipped}(${skipped})+$")
  # Random tests are the same ones each time; make soak and make flips go through other seeds.
  set_tests_properties(${name} PROPERTIES ENVIRONMENT GTEST_RANDOM_SEED=1)
  if(ARG_LABELS)
    set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}")
  endif()
  # For the one program of all of them, gpu_tests, which is what a bare machine with a GPU is given.
  if("gpu" IN_LIST ARG_LABELS AND name MATCHES "^(kernels|index|model|engine)_")
    set_property(GLOBAL APPEND PROPERTY INTARSIA_GPU_TESTS ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  endif()
endfunction()

# intarsia_fuzz(gguf_fuzz.cc LINK intarsia_model)
# A program over tests/fuzz/fuzz_driver.h, run for a few seconds as a test with the label fuzz.
function(intarsia_fuzz source)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  intarsia_name_after(${source} name)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} intarsia_flags)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 120)
endfunction()

# intarsia_bench(attention_merge_bench.cc LINK intarsia_kernels)
function(intarsia_bench source)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  intarsia_name_after(${source} name)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE
    ${ARG_LINK} intarsia_flags benchmark::benchmark benchmark::benchmark_main)
  # For the one program of all of them, gpu_kernel_benches, as with gpu_tests.
  if(name MATCHES "^kernels_.*_cuda_bench$")
    set_property(GLOBAL APPEND PROPERTY INTARSIA_GPU_BENCHES ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  endif()
endfunction()
