# Writes OUT, a C file with one string per Lua script: `const struct store_script_source
# store_script_sources[]` of {name, text}. Run at build time: cmake -DOUT=... -DFILES="a;b" -P this.
set(body "/* Made from src/store/lua by cmake/embed_lua.cmake. */\n#include \"store/scripts.h\"\n\n")
set(rows "")
foreach(file IN LISTS FILES)
  get_filename_component(name "${file}" NAME_WE)
  file(READ "${file}" hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "((0x[0-9a-f][0-9a-f],){16})" "\\1\n    " bytes "${bytes}")
  string(APPEND body "static const char script_${name}[] = {\n    ${bytes}0};\n\n")
  string(APPEND rows "    {\"${name}\", script_${name}},\n")
endforeach()
string(APPEND body "const struct store_script_source store_script_sources[] = {\n${rows}    {0, 0}};\n")
file(WRITE "${OUT}" "${body}")
