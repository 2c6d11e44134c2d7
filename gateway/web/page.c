/* gateway/web/page.c: puts demo.html into the binary; the assembler reads it from the include path. */
#include "gateway/web/page.h"

__asm__(".section .rodata\n"
        ".global xd_demo_html, xd_demo_html_end\n"
        "xd_demo_html:\n"
        ".incbin \"gateway/web/demo.html\"\n"
        "xd_demo_html_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char xd_demo_html[], xd_demo_html_end[];

struct slice web_demo_page(void)
{
    return (struct slice){xd_demo_html, (size_t)(xd_demo_html_end - xd_demo_html)};
}
