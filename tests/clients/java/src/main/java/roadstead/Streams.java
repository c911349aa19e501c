package roadstead;

import static roadstead.Features.delayedExchange;
import static roadstead.Features.isRabbitMQ;
import static roadstead.Features.publishDelayed;
import static roadstead.Session.bytes;
import static roadstead.Session.next;
import static roadstead.Session.text;
import static roadstead.Suite.equal;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** Streams: messages that stay, and readers that each go at their own pace. */
final class Streams {
    private Streams() {}

    static void addTo(Suite suite) {
        suite.add("offsets-of-a-stream", Streams::offsets);
        suite.add("many-read-one-stream", Streams::manyReaders);
        suite.add("an-ack-is-credit-for-a-stream", Streams::credit);
        suite.add("filters-of-a-stream", Streams::filters);
    }

    /** A new stream with so many numbered messages, each confirmed. */
    static String stream(Session session, Channel channel, int count) throws Exception {
        String name = session.queue(channel, Map.of("x-queue-type", "stream"));
        channel.confirmSelect();
        extend(channel, name, 0, count);
        return name;
    }

    static void extend(Channel channel, String stream, int from, int to) throws Exception {
        for (int number = from; number < to; number++) {
            Session.publish(channel, "", stream, "m" + number);
        }
        channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
    }

    static BlockingQueue<Delivery> read(Channel channel, String stream, int prefetch, Map<String, Object> arguments)
            throws Exception {
        channel.basicQos(prefetch);
        BlockingQueue<Delivery> arrived = new LinkedBlockingQueue<>();
        channel.basicConsume(stream, false, arguments, (tag, delivery) -> arrived.add(delivery), tag -> {});
        return arrived;
    }

    /** Expects the messages with these numbers, which are their offsets too. */
    static Delivery expectFrom(BlockingQueue<Delivery> arrived, int from, int to) throws Exception {
        Delivery delivery = null;
        for (int number = from; number < to; number++) {
            delivery = next(arrived, "message of a stream");
            equal(delivery.getProperties().getHeaders().get("x-stream-offset"), (long) number, "the offset");
            equal(text(delivery.getBody()), "m" + number, "the body");
            equal(delivery.getEnvelope().isRedeliver(), false, "redelivered");
        }
        return delivery;
    }

    private static void offsets(Session session) throws Exception {
        String stream = stream(session, session.channel(), 5);
        Map<Object, Integer> cases = new HashMap<>(Map.of("first", 0, 3, 3, "1h", 0, "next", 5));
        cases.put(new Date(System.currentTimeMillis() - 3_600_000), 0);
        for (Map.Entry<Object, Integer> each : cases.entrySet()) {
            Map<String, Object> offset = Map.of("x-stream-offset", each.getKey());
            BlockingQueue<Delivery> arrived = read(session.channel(), stream, 100, offset);
            expectFrom(arrived, each.getValue(), 5);
            equal(arrived.size(), 0, "deliveries beyond those expected");
        }
        BlockingQueue<Delivery> last = read(session.channel(), stream, 100, Map.of("x-stream-offset", "last"));
        while (!text(next(last, "the last").getBody()).equals("m4")) {
            continue; // RabbitMQ begins with the last chunk
        }
    }

    private static void manyReaders(Session session) throws Exception {
        Channel channel = session.channel();
        String stream = stream(session, channel, 50);
        Map<String, Object> first = Map.of("x-stream-offset", "first");
        List<BlockingQueue<Delivery>> readers =
                List.of(read(session.channel(), stream, 100, first), read(session.channel(), stream, 100, first));
        extend(channel, stream, 50, 55);
        for (BlockingQueue<Delivery> reader : readers) {
            expectFrom(reader, 0, 55);
        }
        expectFrom(read(session.channel(), stream, 100, first), 0, 55);
    }

    private static void credit(Session session) throws Exception {
        String stream = stream(session, session.channel(), 6);
        Channel channel = session.channel();
        BlockingQueue<Delivery> arrived = read(channel, stream, 2, Map.of("x-stream-offset", "first"));
        Delivery last = expectFrom(arrived, 0, 2);
        equal(arrived.size(), 0, "deliveries over the prefetch");
        channel.basicAck(last.getEnvelope().getDeliveryTag(), true);
        last = expectFrom(arrived, 2, 4);
        channel.basicNack(last.getEnvelope().getDeliveryTag(), true, true);
        expectFrom(arrived, 4, 6);
    }

    private static void filters(Session session) throws Exception {
        Channel channel = session.channel();
        String stream = stream(session, channel, 0);
        for (String colour : List.of("red", "blue", "red")) {
            Map<String, Object> headers = Map.of("x-stream-filter-value", colour);
            channel.basicPublish("", stream, new AMQP.BasicProperties.Builder().headers(headers).build(), bytes(colour));
            channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
        }
        Map<String, Object> arguments = Map.of("x-stream-offset", "first", "x-stream-filter", "red");
        BlockingQueue<Delivery> arrived = read(session.channel(), stream, 100, arguments);
        for (long offset : new long[] {0, 2}) {
            Delivery delivery = next(arrived, "message of the filter");
            equal(delivery.getProperties().getHeaders().get("x-stream-offset"), offset, "the offset");
            equal(text(delivery.getBody()), "red", "the body");
        }
    }

    /** A stream and a delayed message that a restart is to leave alone. */
    static final class Kept {
        private final String stream;
        private final String delayed;

        Kept(Session session) throws Exception {
            Channel channel = session.channel();
            stream = stream(session, channel, 3);
            delayed = session.queue(channel);
            if (!isRabbitMQ(channel)) {
                String exchange = delayedExchange(session, channel);
                channel.queueBind(delayed, exchange, "k");
                publishDelayed(channel, exchange, "later", 1500);
                channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
                equal(channel.messageCount(delayed), 0L, "messages before their time");
            }
        }

        void judge(Session session) throws Exception {
            Channel channel = session.channel();
            channel.confirmSelect();
            BlockingQueue<Delivery> arrived = read(channel, stream, 10, Map.of("x-stream-offset", "first"));
            extend(channel, stream, 3, 5);
            expectFrom(arrived, 0, 5);
            if (!isRabbitMQ(channel)) {
                Delivery late = next(Session.consume(session.channel(), delayed, true), "delayed message");
                equal(text(late.getBody()), "later", "the delayed message");
            }
        }
    }
}
