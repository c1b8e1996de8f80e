# SPDX-License-Identifier: Apache-2.0
# Lists for the tests of src/driver/, read from it: each value of cuda_types.h, each function of a table.

# onehop_driver_list(OUTPUT FILE REGEX REPLACEMENT): one line for each line of FILE that has REGEX.
function(onehop_driver_list output file regex replacement)
  set(path ${PROJECT_SOURCE_DIR}/src/driver/${file})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${path})
  file(READ ${path} text)
  string(REGEX MATCHALL "${regex}" found "${text}")
  set(lines "")
  foreach(match IN LISTS found)
    string(REGEX REPLACE "${regex}" "${replacement}" line "${match}")
    string(APPEND lines "${line}\n")
  endforeach()
  file(GENERATE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${output} CONTENT "${lines}")
endfunction()

onehop_driver_list(cuda_values.inc cuda_types.h "(CU_[A-Z0-9_]+|CUDA_[A-Z0-9_]+) = " "VALUE(\\1),")
onehop_driver_list(cuda_functions.inc cuda.c "{offsetof\\(oh_cuda_t, ([A-Za-z0-9_]+)\\), \"([A-Za-z0-9_]+)\"},"
  "FUNCTION(\\1, \\2)")
onehop_driver_list(nvrtc_functions.inc nvrtc.c "{offsetof\\(oh_nvrtc_t, ([A-Za-z0-9]+)\\), \"([A-Za-z0-9_]+)\"},"
  "FUNCTION(\\1, \\2)")
