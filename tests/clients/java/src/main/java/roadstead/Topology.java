package roadstead;

import static roadstead.Session.channelRefused;
import static roadstead.Session.consume;
import static roadstead.Session.drain;
import static roadstead.Session.inVhost;
import static roadstead.Session.numbered;
import static roadstead.Session.publish;
import static roadstead.Session.take;
import static roadstead.Suite.equal;
import static roadstead.Suite.until;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Declarations, bindings and routing. */
final class Topology {
    private Topology() {}

    static void addTo(Suite suite) {
        suite.add("declare-durable-queue", Topology::durableQueue);
        suite.add("declare-passive-counts", Topology::passiveCounts);
        suite.add("declare-server-named-queue", Topology::serverNamedQueue);
        suite.add("exclusive-queue-goes-with-its-connection", Topology::exclusiveQueue);
        suite.add("purge-and-delete-return-counts", Topology::purgeAndDelete);
        suite.add("exchange-direct", s -> routed(s, "direct", List.of("a", "b"), List.of("a"), List.of("b")));
        suite.add("exchange-fanout", s -> routed(s, "fanout", List.of("", "x"), KEYS, KEYS));
        suite.add("exchange-topic",
                s -> routed(s, "topic", List.of("a.*", "a.#"), List.of("a.b"), List.of("a", "a.b", "a.b.c")));
        suite.add("exchange-headers", Topology::headersExchange);
        suite.add("exchange-to-exchange-binding", Topology::exchangeToExchange);
        suite.add("auto-delete-exchange-goes-with-its-last-binding", Topology::autoDeleteExchange);
    }

    private static final List<String> KEYS = List.of("a", "b", "a.b", "a.b.c");

    private static void durableQueue(Session session) throws Exception {
        Channel channel = session.channel();
        String name = session.queueName();
        AMQP.Queue.DeclareOk declared = channel.queueDeclare(name, true, false, false, null);
        equal(List.of(declared.getQueue(), declared.getMessageCount(), declared.getConsumerCount()), List.of(name, 0, 0), "ok");
        publish(channel, "", name, "one");
        until(() -> channel.messageCount(name) == 1, "one message is ready");
        equal(channel.queueDeclare(name, true, false, false, null).getMessageCount(), 1, "count at the second declare");
    }

    private static void passiveCounts(Session session) throws Exception {
        Channel channel = session.channel();
        String name = session.queue(channel, numbered(3));
        take(consume(channel, name, false), 3);
        AMQP.Queue.DeclareOk declared = channel.queueDeclarePassive(name);
        equal(List.of(declared.getMessageCount(), declared.getConsumerCount()), List.of(0, 1), "counts");
    }

    private static void serverNamedQueue(Session session) throws Exception {
        Channel channel = session.channel();
        String first = channel.queueDeclare().getQueue();
        String second = channel.queueDeclare().getQueue();
        equal(first.startsWith("amq.gen-"), true, "the prefix of " + first);
        equal(first.equals(second), false, "two server-named queues share a name");
    }

    private static void exclusiveQueue(Session session) throws Exception {
        Connection owner = session.connect();
        String name = session.queueName();
        owner.createChannel().queueDeclare(name, false, true, false, null);
        owner.close();
        String text = inVhost("NOT_FOUND - no queue '" + name + "'");
        channelRefused(session.connect(), 404, text, channel -> channel.queueDeclarePassive(name));
    }

    private static void purgeAndDelete(Session session) throws Exception {
        Channel channel = session.channel();
        String name = session.queue(channel, numbered(4));
        equal(channel.queuePurge(name).getMessageCount(), 4, "purged messages");
        publish(channel, "", name, "last");
        until(() -> channel.messageCount(name) == 1, "one message is ready");
        equal(channel.queueDelete(name).getMessageCount(), 1, "messages deleted with the queue");
    }

    @SafeVarargs
    private static void routed(Session session, String type, List<String> patterns, List<String>... expected) throws Exception {
        Channel channel = session.channel();
        String exchange = session.exchange(channel, type);
        List<String> queues = new ArrayList<>();
        for (String pattern : patterns) {
            String queue = session.queue(channel);
            channel.queueBind(queue, exchange, pattern);
            queues.add(queue);
        }
        channel.confirmSelect();
        for (String key : KEYS) {
            publish(channel, exchange, key, key);
        }
        channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
        for (int index = 0; index < expected.length; index++) {
            equal(drain(channel, queues.get(index)), expected[index], "routed by " + patterns.get(index));
        }
    }

    private static void headersExchange(Session session) throws Exception {
        Channel channel = session.channel();
        String exchange = session.exchange(channel, "headers");
        String every = session.queue(channel);
        String some = session.queue(channel);
        channel.queueBind(every, exchange, "", Map.of("x-match", "all", "shape", "round", "size", 1));
        channel.queueBind(some, exchange, "", Map.of("x-match", "any", "shape", "round", "size", 1));
        channel.confirmSelect();
        publishWithHeaders(channel, exchange, "both", Map.of("shape", "round", "size", 1L));
        publishWithHeaders(channel, exchange, "shape", Map.of("shape", "round"));
        publishWithHeaders(channel, exchange, "neither", Map.of("size", 2));
        channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
        equal(drain(channel, every), List.of("both"), "all");
        equal(drain(channel, some), List.of("both", "shape"), "any");
    }

    private static void publishWithHeaders(Channel channel, String exchange, String body, Map<String, Object> headers)
            throws Exception {
        channel.basicPublish(exchange, "", new AMQP.BasicProperties.Builder().headers(headers).build(), Session.bytes(body));
    }

    private static void exchangeToExchange(Session session) throws Exception {
        Channel channel = session.channel();
        String source = session.exchange(channel, "topic");
        String target = session.exchange(channel, "fanout");
        String queue = session.queue(channel);
        channel.queueBind(queue, target, "");
        channel.exchangeBind(target, source, "in.#");
        channel.confirmSelect();
        publish(channel, source, "in.one", "through");
        channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
        equal(drain(channel, queue), List.of("through"), "over the binding");
        channel.exchangeUnbind(target, source, "in.#");
        publish(channel, source, "in.two", "too late");
        channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
        equal(drain(channel, queue), List.of(), "after the unbind");
    }

    private static void autoDeleteExchange(Session session) throws Exception {
        Connection connection = session.connect();
        Channel channel = connection.createChannel();
        String exchange = session.exchangeName();
        channel.exchangeDeclare(exchange, "direct", false, true, null);
        String queue = session.queue(channel);
        channel.queueBind(queue, exchange, "k");
        channel.exchangeDeclarePassive(exchange);
        channel.queueDelete(queue);
        String text = inVhost("NOT_FOUND - no exchange '" + exchange + "'");
        channelRefused(connection, 404, text, other -> other.exchangeDeclarePassive(exchange));
    }
}
