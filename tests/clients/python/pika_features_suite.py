"""pika against the features of queues and exchanges, of the broker in AMQP_URI."""

import features.dead_letters
import features.exchanges
import features.expiry
import features.lengths
import features.management
import features.streams
import features.turns
import features.restart  # the last, because it ends what the others use
from pika_session import suite

if __name__ == "__main__":
    suite.main()
