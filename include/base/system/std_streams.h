/* The three descriptors that every program expects to find open. */
#ifndef MQFLEET_SYSTEM_STD_STREAMS_H
#define MQFLEET_SYSTEM_STD_STREAMS_H

/* Opens /dev/null in place of those that are closed: else the next socket or file would become
 * stderr, and get the log. First thing in main. */
void std_streams_open(void);

#endif
