# SPDX-License-Identifier: Apache-2.0
# Writes a C file that holds texts, as src/backend/cuda/sources.h declares them.
# usage: cmake -D OUTPUT=FILE.c -D DIRECTORY=src -D NAMES=path,path,... -P embed.cmake
string(REPLACE "," ";" NAMES "${NAMES}")
set(rows "")
set(count 0)
foreach(name IN LISTS NAMES)
  file(READ "${DIRECTORY}/${name}" text)
  string(REPLACE "\\" "\\\\" text "${text}")
  string(REPLACE "\"" "\\\"" text "${text}")
  string(REPLACE "\n" "\\n\"\n     \"" text "${text}")
  string(APPEND rows "    {\"${name}\",\n     \"${text}\"},\n")
  math(EXPR count "${count} + 1")
endforeach()
file(WRITE "${OUTPUT}" "#include \"backend/cuda/sources.h\"\n\nconst oh_source_t oh_sources[] = {\n${rows}};\n"
  "const int oh_nsources = ${count};\n")
