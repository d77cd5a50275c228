/* The three standard descriptors that every program expects to be open. */
#ifndef MQFLEET_SYSTEM_STD_STREAMS_H
#define MQFLEET_SYSTEM_STD_STREAMS_H

/* Opens /dev/null in place of closed ones. Otherwise the next socket or file would become stderr
 * and receive the log. Call first in main. */
void std_streams_open(void);

#endif
