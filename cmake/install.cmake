# Installing mica: the library, its headers, and a package that find_package(mica) finds. All targets but mica stay
# inside the build; what a static mica is linked with is looked up again by micaConfig.cmake.
set_target_properties(mica PROPERTIES DEFINE_SYMBOL "")  # MICA_EXPORT needs none, and ccache then knows the sources
option(MICA_INSTALL "Install mica with the project" ${PROJECT_IS_TOP_LEVEL})
if(NOT MICA_INSTALL)
  return()
endif()

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(MICA_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/mica)

install(TARGETS mica EXPORT micaTargets
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/include/mica DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN *.h)
install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/licenses/mica)
install(EXPORT micaTargets NAMESPACE mica:: DESTINATION ${MICA_PACKAGE_DIR})

get_target_property(mica_type mica TYPE)
set(MICA_PACKAGE_STATIC FALSE)
if(mica_type STREQUAL "STATIC_LIBRARY")
  set(MICA_PACKAGE_STATIC TRUE)
endif()
set(MICA_PACKAGE_CUDA ${MICA_CUDA_FOUND})
set(MICA_PACKAGE_LIBZIP ${MICA_LIBZIP_FOUND})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/micaConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/micaConfig.cmake
                              INSTALL_DESTINATION ${MICA_PACKAGE_DIR} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/micaConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/micaConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/micaConfigVersion.cmake
        ${CMAKE_CURRENT_LIST_DIR}/FindLibzip.cmake DESTINATION ${MICA_PACKAGE_DIR})
