# `cmake --install` and find_package(millrace): programs, libraries, headers in the tree's own layout, so that
# a consumer includes "core/config/run_config.hpp" as this repository does.
include(CMakePackageConfigHelpers)

set(MILLRACE_PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/millrace")

install(TARGETS millrace_kernels millrace_comm millrace_core EXPORT millrace_targets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
foreach(folder kernels comm core)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/${folder}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/millrace"
    FILES_MATCHING PATTERN "*.hpp")
endforeach()
install(DIRECTORY "${PROJECT_SOURCE_DIR}/slurm" DESTINATION "${CMAKE_INSTALL_DATADIR}/millrace"
  USE_SOURCE_PERMISSIONS)
install(EXPORT millrace_targets NAMESPACE millrace:: DESTINATION "${MILLRACE_PACKAGE_DIR}")

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/millrace-config.cmake.in"
  "${PROJECT_BINARY_DIR}/millrace-config.cmake" INSTALL_DESTINATION "${MILLRACE_PACKAGE_DIR}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/millrace-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/millrace-config.cmake"
  "${PROJECT_BINARY_DIR}/millrace-config-version.cmake" DESTINATION "${MILLRACE_PACKAGE_DIR}")
