# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where: the library, its one header, the command, and how other builds find them.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/onehop)

install(TARGETS onehop EXPORT onehop LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/onehop.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# The command finds the library beside it, wherever both are moved to.
if(TARGET onehop_cli)
  file(RELATIVE_PATH from_command_to_library
    ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
  set_target_properties(onehop_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${from_command_to_library}")
  install(TARGETS onehop_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

# pkg-config. All paths begin at the place of the file itself, so that the tree can be moved.
set(pc_dir ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH ONEHOP_PC_PREFIX ${pc_dir} ${CMAKE_INSTALL_PREFIX})
file(RELATIVE_PATH ONEHOP_PC_INCLUDEDIR ${pc_dir} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(onehop.pc.in onehop.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/onehop.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# find_package(onehop) -> onehop::onehop. Before 1.0 a minor version may change the interface.
write_basic_package_version_file(onehop-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/onehop-config.cmake ${PROJECT_BINARY_DIR}/onehop-config-version.cmake DESTINATION ${package_dir})
install(EXPORT onehop NAMESPACE onehop:: FILE onehop-targets.cmake DESTINATION ${package_dir})
