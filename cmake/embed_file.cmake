# Writes OUT, a C file with the bytes of FILE: `const char NAME[]`, NUL-terminated. Run at build
# time: cmake -DOUT=... -DFILE=... -DNAME=... -P this.
file(READ "${FILE}" hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "((0x[0-9a-f][0-9a-f],){16})" "\\1\n    " bytes "${bytes}")
file(WRITE "${OUT}" "/* Made by cmake/embed_file.cmake. */\nextern const char ${NAME}[];\nconst char ${NAME}[] = {\n    ${bytes}0};\n")
