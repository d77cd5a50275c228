# The types of sinks: one folder of src/sink/types each. A folder with a module.cmake needs a library
# of its own and becomes a module, loaded when a sink asks for it; the others are built in. Adding a
# folder is all that a new type needs.
#
# module.cmake sets
#   module_found         whether its libraries are there
#   module_libraries     what to link
#   module_packages      the Debian packages to build it with, on this line (also for tools/install-deps)
#   module_run_packages  the same to run it with
# MQFLEET_SINK_<TYPE> is ON, OFF or AUTO (default): built if its libraries are there.

set(SINK_TYPES_FOLDER ${CMAKE_SOURCE_DIR}/src/sink/types)
file(GLOB sink_type_folders CONFIGURE_DEPENDS RELATIVE ${SINK_TYPES_FOLDER} ${SINK_TYPES_FOLDER}/*)
set(SINK_BUILT_IN)
set(SINK_MODULES)
foreach(type ${sink_type_folders})
  if(EXISTS ${SINK_TYPES_FOLDER}/${type}/module.cmake)
    list(APPEND SINK_MODULES ${type})
  else()
    list(APPEND SINK_BUILT_IN ${type})
  endif()
endforeach()

# Two tables: the built-in types, and the modules, also those that are not built.
set(declarations "")
set(addresses "")
set(modules "")
foreach(type ${SINK_BUILT_IN})
  string(APPEND declarations "extern const struct sink_type sink_type_${type};\n")
  string(APPEND addresses "    &sink_type_${type},\n")
endforeach()
foreach(type ${SINK_MODULES})
  include(${SINK_TYPES_FOLDER}/${type}/module.cmake)
  set(SINK_${type}_FOUND ${module_found})
  set(SINK_${type}_LIBRARIES ${module_libraries})
  set(SINK_${type}_PACKAGES "${module_packages}")
  string(APPEND modules "    {\"${type}\", \"${module_packages}\", \"${module_run_packages}\"},\n")
endforeach()
set(SINK_TABLES_C ${CMAKE_BINARY_DIR}/sink_tables.c)
file(CONFIGURE OUTPUT ${SINK_TABLES_C} @ONLY CONTENT
"/* Made by cmake/sink_types.cmake from the folders of src/sink/types. */
#include <stddef.h>
#include \"sink/sink_types.h\"

@declarations@
const struct sink_type *const sink_types_built_in[] = {
@addresses@    NULL};

const struct sink_module sink_types_modules[] = {
@modules@    {0}};
")

function(sink_module type)
  string(TOUPPER ${type} upper)
  set(MQFLEET_SINK_${upper} AUTO CACHE STRING "Build the module of the sink type ${type}: ON, OFF or AUTO")
  if(NOT MQFLEET_SINK_${upper})
    return()
  endif()
  if(NOT SINK_${type}_FOUND)
    set(severity STATUS)
    if(NOT MQFLEET_SINK_${upper} STREQUAL "AUTO")
      set(severity FATAL_ERROR)
    endif()
    message(${severity} "sink type ${type}: not built, it needs ${SINK_${type}_PACKAGES}")
    return()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${SINK_TYPES_FOLDER}/${type}/*.c)
  add_library(sink_${type}_objects OBJECT ${sources})
  set_target_properties(sink_${type}_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_include_directories(sink_${type}_objects PUBLIC ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(sink_${type}_objects PUBLIC PkgConfig::JANSSON ${SINK_${type}_LIBRARIES})
  target_compile_options(sink_${type}_objects PRIVATE ${MQFLEET_WARNINGS})
  add_library(sink_${type} MODULE $<TARGET_OBJECTS:sink_${type}_objects>)
  target_link_libraries(sink_${type} PRIVATE ${SINK_${type}_LIBRARIES})
  set_target_properties(sink_${type} PROPERTIES PREFIX "" OUTPUT_NAME ${type}
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/sinks)
  install(TARGETS sink_${type} LIBRARY DESTINATION lib/mqfleet/sinks)
  set_property(GLOBAL APPEND PROPERTY SINK_MODULE_TARGETS sink_${type})
endfunction()
