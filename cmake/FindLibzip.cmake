# Finds libzip, 1.7 or newer: Libzip_FOUND and the target Libzip::Libzip. Installed with mica, whose package includes it.
find_path(LIBZIP_INCLUDE_DIR zip.h DOC "Where libzip's zip.h is")
find_path(LIBZIP_CONFIG_INCLUDE_DIR zipconf.h HINTS ${LIBZIP_INCLUDE_DIR} PATH_SUFFIXES ../lib/libzip/include)
find_library(LIBZIP_LIBRARY zip DOC "libzip")
mark_as_advanced(LIBZIP_INCLUDE_DIR LIBZIP_CONFIG_INCLUDE_DIR LIBZIP_LIBRARY)

set(Libzip_FOUND FALSE)
if(LIBZIP_INCLUDE_DIR AND LIBZIP_CONFIG_INCLUDE_DIR AND LIBZIP_LIBRARY)
  file(STRINGS ${LIBZIP_CONFIG_INCLUDE_DIR}/zipconf.h libzip_version REGEX "define LIBZIP_VERSION ")
  string(REGEX MATCH "[0-9]+[.][0-9.]+" libzip_version "${libzip_version}")
  if(libzip_version VERSION_GREATER_EQUAL 1.7)
    set(Libzip_FOUND TRUE)
    if(NOT TARGET Libzip::Libzip)
      add_library(Libzip::Libzip UNKNOWN IMPORTED)
      set_target_properties(Libzip::Libzip PROPERTIES IMPORTED_LOCATION ${LIBZIP_LIBRARY}
                            INTERFACE_INCLUDE_DIRECTORIES "${LIBZIP_INCLUDE_DIR};${LIBZIP_CONFIG_INCLUDE_DIR}")
    endif()
  endif()
endif()
