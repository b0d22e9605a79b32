// What the card's libraries share.
#pragma once
#include <functional>

#include "language.h"

namespace card {
using Work = std::function<void()>;
// Behind what the stream has, to run when something waits for it; a stream that is captured keeps it for its graph.
// The result is one of the driver's: 0, or that the stream does not exist.
int enqueue(void *stream, Work work);
Bind find_kernel(const char *name);
}
