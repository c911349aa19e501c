package roadstead;

import static roadstead.Session.bodies;
import static roadstead.Session.bytes;
import static roadstead.Session.channelRefused;
import static roadstead.Session.consume;
import static roadstead.Session.drain;
import static roadstead.Session.next;
import static roadstead.Session.numbered;
import static roadstead.Session.publish;
import static roadstead.Session.synchronise;
import static roadstead.Session.take;
import static roadstead.Session.text;
import static roadstead.Suite.equal;
import static roadstead.Suite.until;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;

/** What queues and exchanges do by their arguments: expiry, dead letters, limits, turns, routing. */
final class Features {
    private Features() {}

    static final Map<String, Object> QUORUM = Map.of("x-queue-type", "quorum");

    static void addTo(Suite suite) {
        suite.add("expiry-dead-letters", Features::expiry);
        suite.add("a-shorter-expiration-leaves-first", Features::shorterExpiration);
        suite.add("unused-queue-expires", Features::unusedQueue);
        suite.add("deaths-over-two-rounds", Features::twoRounds);
        suite.add("max-length-dead-letters", Features::maxLength);
        suite.add("reject-publish-dead-letters", Features::rejectPublishDeadLetters);
        suite.add("priorities-highest-first", Features::priorities);
        suite.add("single-active-consumer-is-taken-over-from", Features::singleActive);
        suite.add("exclusive-consumer-is-alone", Features::exclusiveConsumer);
        suite.add("delivery-limit-and-count", Features::deliveryLimit);
        suite.add("consumer-timeout", Features::consumerTimeout);
        suite.add("hashing-and-random-exchanges", Features::oneOfThree);
        suite.add("jms-topic-exchange", Features::jmsTopic);
        suite.add("delayed-messages-come-at-their-time", Features::delayed);
        suite.add("limit-of-connections-of-a-vhost", Features::limitOfConnections);
    }

    static boolean isRabbitMQ(Channel channel) {
        return channel.getConnection().getServerProperties().get("platform").toString().startsWith("Erlang");
    }

    /** Skips a check of what RabbitMQ 4.0 doesn't do, when it is the broker. */
    static void notInRabbitMQ(Channel channel, String what) {
        if (isRabbitMQ(channel)) {
            throw new Suite.Skipped("RabbitMQ lacks " + what);
        }
    }

    /** All that these tables have. */
    @SafeVarargs
    static Map<String, Object> with(Map<String, Object>... tables) {
        Map<String, Object> all = new HashMap<>();
        for (Map<String, Object> table : tables) {
            all.putAll(table);
        }
        return all;
    }

    /** Arguments of a queue whose dead letters go to the queue {@code grave}. */
    static Map<String, Object> deadLettering(String grave) {
        return Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", grave);
    }

    private static void expiring(Channel channel, String queue, String body, String expiration) throws Exception {
        channel.basicPublish("", queue, new AMQP.BasicProperties.Builder().expiration(expiration).build(), bytes(body));
    }

    private static Map<String, Object> death(String reason, String queue, long count) {
        List<String> keys = List.of(queue);
        return new HashMap<>(
                Map.of("count", count, "reason", reason, "queue", queue, "exchange", "", "routing-keys", keys));
    }

    /** Expects exactly these headers of a dead letter, and times that are times. */
    private static void expectDeaths(Delivery letter, Map<String, Object> first, List<Map<String, Object>> deaths) {
        Map<String, Object> headers = Messages.plain(letter.getProperties().getHeaders());
        for (Object each : (List<?>) headers.get("x-death")) {
            equal(((Map<?, ?>) each).remove("time") instanceof Date, true, "the time is a date");
        }
        Map<String, Object> expected = new HashMap<>(Map.of("x-death", deaths));
        for (String what : List.of("reason", "queue", "exchange")) {
            expected.put("x-first-death-" + what, first.get(what));
            expected.put("x-last-death-" + what, deaths.get(0).get(what));
        }
        equal(headers, expected, "the headers");
    }

    private static void expiry(Session session) throws Exception {
        Channel channel = session.channel();
        String grave = session.queue(channel);
        BlockingQueue<Delivery> dead = consume(channel, grave, true);
        String queue = session.queue(channel, with(deadLettering(grave), Map.of("x-message-ttl", 60_000)));
        long start = System.nanoTime();
        expiring(channel, queue, "old", "100");
        Delivery letter = next(dead, "dead letter");
        equal(System.nanoTime() - start >= 100_000_000, true, "it lasted its time");
        equal(letter.getProperties().getExpiration(), null, "the expiration");
        Map<String, Object> once = death("expired", queue, 1);
        once.put("original-expiration", "100");
        expectDeaths(letter, once, List.of(once));
    }

    private static void shorterExpiration(Session session) throws Exception {
        Channel channel = session.channel();
        notInRabbitMQ(channel, "expiry behind a message that stays");
        String grave = session.queue(channel);
        BlockingQueue<Delivery> dead = consume(channel, grave, true);
        String queue = session.queue(channel, deadLettering(grave));
        for (String expiration : List.of("60000", "250", "50", "150")) {
            expiring(channel, queue, expiration, expiration);
        }
        equal(bodies(take(dead, 3)), List.of("50", "150", "250"), "what has expired");
        equal(drain(channel, queue), List.of("60000"), "what is left");
    }

    private static void unusedQueue(Session session) throws Exception {
        Channel channel = session.channel();
        List<Integer> returned = new ArrayList<>();
        channel.addReturnListener(message -> returned.add(message.getReplyCode()));
        channel.confirmSelect();
        String queue = session.queue(channel, Map.of("x-expires", 100));
        until(() -> {
            channel.basicPublish("", queue, true, null, new byte[0]);
            channel.waitForConfirms(Suite.EVENT_MILLIS);
            return !returned.isEmpty();
        }, "the queue has expired");
    }

    private static void twoRounds(Session session) throws Exception {
        Channel channel = session.channel();
        String work = session.queueName();
        String retry = session.queueName();
        channel.queueDeclare(work, true, false, false, deadLettering(retry));
        channel.queueDeclare(retry, true, false, false, with(deadLettering(work), Map.of("x-message-ttl", 50)));
        BlockingQueue<Delivery> arrived = consume(channel, work, false);
        publish(channel, "", work, "again and again");
        for (long count = 0; count < 3; count++) {
            Delivery delivery = next(arrived, "round");
            if (count > 0) {
                Map<String, Object> rejected = death("rejected", work, count);
                expectDeaths(delivery, rejected, List.of(death("expired", retry, count), rejected));
            }
            channel.basicReject(delivery.getEnvelope().getDeliveryTag(), false);
        }
    }

    private static void maxLength(Session session) throws Exception {
        Channel channel = session.channel();
        List<Map<String, Object>> limits = List.of(Map.of("x-max-length", 2), Map.of("x-max-length-bytes", 5));
        for (Map<String, Object> limit : limits) {
            String grave = session.queue(channel);
            BlockingQueue<Delivery> dead = consume(channel, grave, true);
            String queue = session.queue(channel, with(deadLettering(grave), limit));
            for (String body : numbered(4)) {
                publish(channel, "", queue, body);
            }
            List<Delivery> letters = take(dead, 2);
            equal(bodies(letters), List.of(numbered(2)), "the dead letters");
            Map<String, Object> once = death("maxlen", queue, 1);
            expectDeaths(letters.get(0), once, List.of(once));
            equal(drain(channel, queue), List.of("m2", "m3"), "what is left");
        }
    }

    private static void rejectPublishDeadLetters(Session session) throws Exception {
        Channel channel = session.channel();
        String grave = session.queue(channel);
        Map<String, Object> full = Map.of("x-max-length", 1, "x-overflow", "reject-publish-dlx");
        String queue = session.queue(channel, with(deadLettering(grave), full));
        channel.confirmSelect();
        for (String body : numbered(2)) {
            publish(channel, "", queue, body);
            equal(channel.waitForConfirms(Suite.EVENT_MILLIS), body.equals("m0"), "ack of " + body);
        }
        equal(bodies(take(consume(channel, grave, true), 1)), List.of("m1"), "the dead letter");
        equal(drain(channel, queue), List.of("m0"), "what the queue took");
    }

    private static void priorities(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel, Map.of("x-max-priority", 10));
        publishWithPriority(channel, queue, 0, 3, 10, 7, 200, 3);
        equal(drain(channel, queue), List.of("10", "200", "7", "3", "3", "0"), "by priority");
        String another = session.queue(channel, QUORUM);
        publishWithPriority(channel, another, 1, 1, 9);
        equal(drain(channel, another), List.of("9", "1", "1"), "by the priority of a quorum queue");
    }

    private static void publishWithPriority(Channel channel, String queue, int... priorities) throws Exception {
        for (int priority : priorities) {
            AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().priority(priority).build();
            channel.basicPublish("", queue, properties, bytes("" + priority));
        }
        until(() -> channel.messageCount(queue) == priorities.length, "the messages are ready");
    }

    private static void singleActive(Session session) throws Exception {
        for (Map<String, Object> arguments : List.of(Map.<String, Object>of(), QUORUM)) {
            Connection active = session.connect();
            Channel channel = session.channel();
            String queue = session.queue(channel, with(arguments, Map.of("x-single-active-consumer", true)));
            BlockingQueue<Delivery> first = consume(active.createChannel(), queue, false);
            BlockingQueue<Delivery> second = consume(channel, queue, false);
            for (String body : numbered(5)) {
                publish(channel, "", queue, body);
            }
            equal(bodies(take(first, 5)), List.of(numbered(5)), "what the first gets");
            synchronise(channel);
            equal(second.size(), 0, "deliveries of the second");
            active.close();
            List<Delivery> again = take(second, 5);
            equal(bodies(again), List.of(numbered(5)), "what the second gets");
            equal(again.get(0).getEnvelope().isRedeliver(), true, "redelivered");
        }
    }

    private static void exclusiveConsumer(Session session) throws Exception {
        Connection connection = session.connect();
        Channel channel = connection.createChannel();
        String queue = session.queue(channel);
        channel.basicConsume(queue, true, "alone", false, true, Map.of(), (tag, delivery) -> {}, tag -> {});
        String text = "ACCESS_REFUSED - queue '" + queue + "'" + Session.inVhost("") + " in exclusive use";
        channelRefused(connection, 403, text, other -> consume(other, queue, true));
    }

    private static void deliveryLimit(Session session) throws Exception {
        Channel channel = session.channel();
        String grave = session.queue(channel);
        BlockingQueue<Delivery> dead = consume(channel, grave, true);
        String queue = session.queue(channel, with(deadLettering(grave), QUORUM, Map.of("x-delivery-limit", 2)));
        BlockingQueue<Delivery> arrived = consume(channel, queue, false);
        publish(channel, "", queue, "poison");
        for (long count = 0; count <= 2; count++) {
            Delivery delivery = next(arrived, "attempt");
            Map<String, Object> headers = delivery.getProperties().getHeaders();
            Object counted = headers == null ? null : headers.get("x-delivery-count");
            equal(counted, count == 0 ? null : (Object) count, "x-delivery-count");
            channel.basicReject(delivery.getEnvelope().getDeliveryTag(), true);
        }
        Delivery letter = next(dead, "dead letter");
        Map<String, Object> once = death("delivery_limit", queue, 1);
        expectDeaths(letter, once, List.of(once));
        equal(text(letter.getBody()), "poison", "the body");
    }

    private static void consumerTimeout(Session session) throws Exception {
        Connection connection = session.connect();
        Channel slow = connection.createChannel();
        Channel quick = connection.createChannel();
        notInRabbitMQ(slow, "consumer timeouts below a minute");
        for (Map<String, Object> arguments : List.of(Map.<String, Object>of(), QUORUM)) {
            String queue = session.queue(slow, with(arguments, Map.of("x-consumer-timeout", 400)));
            publish(slow, "", queue, "late");
            Delivery late = next(consume(slow, queue, false), "delivery");
            Delivery again = next(consume(quick, queue, false), "delivery to another consumer");
            equal(again.getEnvelope().isRedeliver(), true, "redelivered");
            slow.basicAck(late.getEnvelope().getDeliveryTag(), false);
            synchronise(slow);
            quick.basicAck(again.getEnvelope().getDeliveryTag(), false);
            synchronise(quick);
            equal(quick.messageCount(queue), 0L, "messages");
        }
    }

    private static void oneOfThree(Session session) throws Exception {
        Channel channel = session.channel();
        channel.confirmSelect();
        for (String type : List.of("x-consistent-hash", "x-modulus-hash", "x-random", "x-local-random")) {
            String exchange = session.exchange(channel, type);
            List<String> queues = List.of(session.queue(channel), session.queue(channel), session.queue(channel));
            for (String queue : queues) {
                channel.queueBind(queue, exchange, type.equals("x-local-random") ? "" : "1");
            }
            List<List<String>> before = spread(channel, exchange, queues);
            equal(before.stream().allMatch(got -> got.size() > 10), true, type + " uses every queue");
            if (type.endsWith("hash")) {
                equal(spread(channel, exchange, queues), before, "where the same keys go by " + type);
            }
        }
    }

    private static List<List<String>> spread(Channel channel, String exchange, List<String> queues) throws Exception {
        for (String key : numbered(150)) {
            publish(channel, exchange, key, key);
        }
        channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
        List<List<String>> got = new ArrayList<>();
        for (String queue : queues) {
            got.add(drain(channel, queue));
        }
        equal(got.stream().mapToInt(List::size).sum(), 150, "messages, each in one queue");
        return got;
    }

    private static void jmsTopic(Session session) throws Exception {
        Channel channel = session.channel();
        notInRabbitMQ(channel, "selectors as text");
        String exchange = session.exchange(channel, "x-jms-topic");
        String red = session.queue(channel);
        String every = session.queue(channel);
        channel.queueBind(red, exchange, "topic", Map.of("x-jms-selector", "colour = 'red' AND size > 3"));
        channel.queueBind(every, exchange, "topic");
        channel.confirmSelect();
        for (Map<String, Object> headers : List.<Map<String, Object>>of(
                Map.of("colour", "red", "size", 4), Map.of("colour", "red", "size", 3), Map.of("size", 9))) {
            AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().headers(headers).build();
            channel.basicPublish(exchange, "topic", properties, bytes("" + headers.get("size")));
        }
        channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
        equal(drain(channel, red), List.of("4"), "by the selector");
        equal(drain(channel, every), List.of("4", "3", "9"), "without a selector");
    }

    static void publishDelayed(Channel channel, String exchange, String body, int milliseconds) throws Exception {
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
                .deliveryMode(2).headers(Map.of("x-delay", milliseconds)).build();
        channel.basicPublish(exchange, "k", properties, bytes(body));
    }

    static String delayedExchange(Session session, Channel channel) throws Exception {
        String exchange = session.exchangeName();
        channel.exchangeDeclare(exchange, "x-delayed-message", true, false, Map.of("x-delayed-type", "direct"));
        return exchange;
    }

    private static void delayed(Session session) throws Exception {
        Channel channel = session.channel();
        notInRabbitMQ(channel, "its plugin for delayed messages");
        String exchange = delayedExchange(session, channel);
        String queue = session.queue(channel);
        channel.queueBind(queue, exchange, "k");
        BlockingQueue<Delivery> arrived = consume(channel, queue, true);
        long start = System.nanoTime();
        publishDelayed(channel, exchange, "slow", 250);
        publishDelayed(channel, exchange, "quick", 100);
        publishDelayed(channel, exchange, "now", 0);
        equal(bodies(take(arrived, 3)), List.of("now", "quick", "slow"), "bodies");
        equal(System.nanoTime() - start >= 250_000_000, true, "the last came at its time");
    }

    private static void limitOfConnections(Session session) throws Exception {
        String vhost = Session.unique("vhost");
        String definitions = "{'vhosts': [{'name': '%s'}],"
                + "'permissions': [{'user': 'guest', 'vhost': '%s', 'configure': '.*', 'write': '.*', 'read': '.*'}],"
                + "'parameters': [{'vhost': '%s', 'component': 'vhost-limits', 'name': 'limits',"
                + "'value': {'max-connections': 0}}]}";
        Suite.define(definitions.replace("%s", vhost).replace('\'', '"'));
        ConnectionFactory factory = Session.factory();
        factory.setVirtualHost(vhost);
        try {
            session.connect(factory);
        } catch (IOException refused) {
            String text = "access to vhost '" + vhost + "' refused for user 'guest': connection limit (0) is reached";
            Session.expectConnectionClose((ShutdownSignalException) refused.getCause(), 530, "NOT_ALLOWED - " + text);
            return;
        }
        throw new AssertionError("a vhost without place for connections took one");
    }
}
