# Warnings are errors; release is hardened and keeps assert (a broken invariant must stop a node, its peers take over).
set(xindao_warnings
  -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wold-style-definition -Wpointer-arith -Wcast-qual
  -Wwrite-strings -Wvla -Wundef -Wformat=2 -Wnull-dereference -Wenum-conversion -Wredundant-decls -fno-common -Wno-format-zero-length -Werror)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  list(APPEND xindao_warnings -Wlogical-op -Wduplicated-cond -Wduplicated-branches -Wcast-align=strict
    -Wformat-signedness -Wimplicit-fallthrough=5 -Walloca)
endif()

set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
if(XINDAO_SANITIZE)
  add_compile_options(-fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
  # Sanitizers turn checks into branches that gcc then reports as possible null dereferences.
  add_compile_options(-Wno-null-dereference)
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  add_compile_options(-fstack-protector-strong -fstack-clash-protection -fPIE)
  add_compile_definitions(_FORTIFY_SOURCE=2)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64")
    add_compile_options(-fcf-protection=full)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64")
    add_compile_options(-mbranch-protection=standard)
  endif()
  if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-ftrivial-auto-var-init=zero)
  endif()
  add_link_options(-pie -Wl,-z,relro,-z,now,-z,noexecstack)
endif()

# xindao_layer(NAME SOURCES… LINKS…): a layer's static library, with our warnings.
function(xindao_layer name)
  cmake_parse_arguments(arg "STRICT_CONVERSION" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_options(${name} PRIVATE ${xindao_warnings})
  target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
  if(arg_STRICT_CONVERSION)
    target_compile_options(${name} PRIVATE -Wconversion)
  endif()
  target_link_libraries(${name} PUBLIC ${arg_LINKS} PRIVATE ${arg_PRIVATE_LINKS})
endfunction()
