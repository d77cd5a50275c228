# The types of sinks: one folder of src/sink/types each. A folder with a module.cmake needs a library
# of its own and becomes a module, loaded when a sink asks for it; the others are built in. Adding a
# folder is all that a new type needs.
#
# module.cmake sets
#   module_found      whether its libraries are there
#   module_libraries  what to link
#   module_packages   the Debian packages that provide them, for messages

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

# Two tables: the built-in types, and the names of the modules.
set(declarations "")
set(addresses "")
set(names "")
foreach(type ${SINK_BUILT_IN})
  string(APPEND declarations "extern const struct sink_type sink_type_${type};\n")
  string(APPEND addresses "    &sink_type_${type},\n")
endforeach()
foreach(type ${SINK_MODULES})
  string(APPEND names "    \"${type}\",\n")
endforeach()
set(SINK_TABLES_C ${CMAKE_BINARY_DIR}/sink_tables.c)
file(CONFIGURE OUTPUT ${SINK_TABLES_C} @ONLY CONTENT
"/* Made by cmake/sink_types.cmake from the folders of src/sink/types. */
#include <stddef.h>
#include \"sink/sink_types.h\"

@declarations@
const struct sink_type *const sink_types_built_in[] = {
@addresses@    NULL};

const char *const sink_types_modules[] = {
@names@    NULL};
")

# AUTO: built if its libraries are there.
function(sink_module type)
  string(TOUPPER ${type} upper)
  set(MQFLEET_SINK_${upper} AUTO CACHE STRING "Build the module of the sink type ${type}: ON, OFF or AUTO")
  if(MQFLEET_SINK_${upper} STREQUAL "OFF")
    return()
  endif()
  include(${SINK_TYPES_FOLDER}/${type}/module.cmake)
  if(NOT module_found)
    set(message "sink type ${type}: not built, it needs ${module_packages}")
    if(MQFLEET_SINK_${upper} STREQUAL "ON")
      message(FATAL_ERROR "${message}")
    endif()
    message(STATUS "${message}")
    return()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${SINK_TYPES_FOLDER}/${type}/*.c)
  add_library(sink_${type}_objects OBJECT ${sources})
  set_target_properties(sink_${type}_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_include_directories(sink_${type}_objects PUBLIC ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(sink_${type}_objects PUBLIC PkgConfig::JANSSON ${module_libraries})
  target_compile_options(sink_${type}_objects PRIVATE ${MQFLEET_WARNINGS})
  add_library(sink_${type} MODULE $<TARGET_OBJECTS:sink_${type}_objects>)
  target_link_libraries(sink_${type} PRIVATE ${module_libraries})
  set_target_properties(sink_${type} PROPERTIES PREFIX "" OUTPUT_NAME ${type}
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/sinks)
  install(TARGETS sink_${type} LIBRARY DESTINATION lib/mqfleet/sinks)
endfunction()
