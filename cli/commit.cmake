# SPDX-License-Identifier: Apache-2.0
# Writes HEADER, which says what commit SOURCE is at.
cmake_minimum_required(VERSION 3.20)
find_package(Git QUIET)
set(commit "")
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} describe --always --exclude=* --abbrev=40 --dirty
    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(commit STREQUAL "")
  set(commit "unknown")
endif()
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define ONEHOP_COMMIT \"@commit@\"\n" @ONLY)
