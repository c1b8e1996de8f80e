# SPDX-License-Identifier: Apache-2.0
# find_package(onehop) gives the target onehop::onehop.
include("${CMAKE_CURRENT_LIST_DIR}/onehop-targets.cmake")
