# Third-party libraries, all from Debian. Each is linked in one layer only (tests/lint/layers.sh checks the includes).
find_package(PkgConfig REQUIRED)
pkg_check_modules(HIREDIS REQUIRED IMPORTED_TARGET hiredis)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)
find_package(OpenSSL 3.0 REQUIRED)
find_program(PROTOC_C protoc-c REQUIRED)
find_library(EV_LIBRARY ev REQUIRED)
find_library(HTTP_PARSER_LIBRARY http_parser REQUIRED)
