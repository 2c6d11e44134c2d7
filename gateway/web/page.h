/* gateway/web/page.h: the demo page, compiled into the binary. */
#ifndef XD_WEB_PAGE_H
#define XD_WEB_PAGE_H

#include "base/slice.h"

struct slice web_demo_page(void);

#endif
