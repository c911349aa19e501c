package roadstead;

import static roadstead.Session.channelRefused;
import static roadstead.Session.connectionRefused;
import static roadstead.Session.consume;
import static roadstead.Session.inVhost;
import static roadstead.Session.publish;
import static roadstead.Session.take;
import static roadstead.Session.unique;
import static roadstead.Suite.equal;

import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.util.Map;

/** The error paths: each asserts the code and the exact text, which clients match on. */
final class Refusals {
    private Refusals() {}

    static void addTo(Suite suite) {
        suite.add("404-missing-queue", Refusals::missingQueue);
        suite.add("404-missing-exchange", Refusals::missingExchange);
        suite.add("405-exclusive-queue-of-another-connection", Refusals::lockedQueue);
        suite.add("406-inequivalent-queue", Refusals::inequivalentQueue);
        suite.add("406-inequivalent-exchange", Refusals::inequivalentExchange);
        suite.add("406-unknown-delivery-tag", Refusals::unknownTag);
        suite.add("406-queue-in-use-or-not-empty", Refusals::inUse);
        suite.add("406-modes-of-a-channel", Refusals::modes);
        suite.add("406-unknown-exchange-type", Refusals::unknownType);
        suite.add("406-message-too-large", Refusals::tooLarge);
        suite.add("403-reserved-names", Refusals::reservedNames);
        suite.add("403-default-exchange", Refusals::defaultExchange);
        suite.add("403-internal-exchange", Refusals::internalExchange);
        suite.add("403-exclusive-consumer", Refusals::exclusiveConsumer);
        suite.add("403-wrong-password", Refusals::wrongPassword);
        suite.add("530-missing-vhost", Refusals::missingVhost);
        suite.add("530-reused-consumer-tag", Refusals::reusedTag);
        suite.add("540-not-implemented", Refusals::notImplemented);
    }

    private static void missingQueue(Session session) throws Exception {
        String missing = unique("missing");
        channelRefused(session.connect(), 404, inVhost("NOT_FOUND - no queue '" + missing + "'"),
                channel -> channel.queueDeclarePassive(missing),
                channel -> channel.basicGet(missing, true),
                channel -> consume(channel, missing, true),
                channel -> channel.queuePurge(missing),
                channel -> channel.queueBind(missing, "amq.direct", "k"));
    }

    private static void missingExchange(Session session) throws Exception {
        Connection connection = session.connect();
        String queue = session.queue(connection.createChannel());
        String missing = unique("missing");
        channelRefused(connection, 404, inVhost("NOT_FOUND - no exchange '" + missing + "'"),
                channel -> channel.exchangeDeclarePassive(missing),
                channel -> channel.queueBind(queue, missing, "k"),
                channel -> channel.exchangeBind(missing, "amq.direct", "k"),
                channel -> publish(channel, missing, "k", "x"));
    }

    private static void lockedQueue(Session session) throws Exception {
        String name = session.queueName();
        session.channel().queueDeclare(name, false, true, false, null);
        String text = inVhost("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '" + name + "'")
                + ". It could be originally declared on another connection or the exclusive property value does not match that"
                + " of the original declaration.";
        channelRefused(session.connect(), 405, text,
                channel -> channel.queueDeclare(name, false, true, false, null),
                channel -> channel.basicGet(name, true),
                channel -> consume(channel, name, true),
                channel -> channel.queueDelete(name));
    }

    private static void inequivalentQueue(Session session) throws Exception {
        Connection connection = session.connect();
        String queue = session.queue(connection.createChannel(), Map.of("x-max-length", 5));
        String about = inVhost(" for queue '" + queue + "'");
        channelRefused(connection, 406,
                "PRECONDITION_FAILED - inequivalent arg 'durable'" + about + ": received 'false' but current is 'true'",
                channel -> channel.queueDeclare(queue, false, false, false, Map.of("x-max-length", 5)));
        channelRefused(connection, 406,
                "PRECONDITION_FAILED - inequivalent arg 'x-max-length'" + about + ": received '6' but current is '5'",
                channel -> channel.queueDeclare(queue, true, false, false, Map.of("x-max-length", 6)));
        connection.createChannel().queueDeclare(queue, true, false, false, Map.of("x-max-length", 5L));
    }

    private static void inequivalentExchange(Session session) throws Exception {
        Connection connection = session.connect();
        String exchange = session.exchange(connection.createChannel(), "direct");
        String text = inVhost("PRECONDITION_FAILED - inequivalent arg 'type' for exchange '" + exchange + "'");
        channelRefused(connection, 406, text + ": received 'fanout' but current is 'direct'",
                channel -> channel.exchangeDeclare(exchange, "fanout", true));
    }

    private static void unknownTag(Session session) throws Exception {
        channelRefused(session.connect(), 406, "PRECONDITION_FAILED - unknown delivery tag 42",
                channel -> channel.basicAck(42, false),
                channel -> channel.basicNack(42, false, true),
                channel -> channel.basicReject(42, true));
    }

    private static void inUse(Session session) throws Exception {
        Connection connection = session.connect();
        Channel channel = connection.createChannel();
        String queue = session.queue(channel, "x");
        String text = inVhost("PRECONDITION_FAILED - queue '" + queue + "'");
        channelRefused(connection, 406, text + " not empty", other -> other.queueDelete(queue, false, true));
        take(consume(channel, queue, false), 1);
        channelRefused(connection, 406, text + " in use", other -> other.queueDelete(queue, true, false));
    }

    private static void modes(Session session) throws Exception {
        Connection connection = session.connect();
        channelRefused(connection, 406, "PRECONDITION_FAILED - channel is not transactional",
                Channel::txCommit, Channel::txRollback);
        channelRefused(connection, 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode", channel -> {
            channel.txSelect();
            channel.confirmSelect();
        });
        channelRefused(connection, 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode", channel -> {
            channel.confirmSelect();
            channel.txSelect();
        });
    }

    private static void unknownType(Session session) throws Exception {
        String name = session.exchangeName();
        channelRefused(session.connect(), 406, "PRECONDITION_FAILED - unknown exchange type 'x-nonsense'",
                channel -> channel.exchangeDeclare(name, "x-nonsense"));
    }

    private static void tooLarge(Session session) throws Exception {
        channelRefused(session.connect(), 406,
                "PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216",
                channel -> channel.basicPublish("", "any", null, new byte[16 * 1024 * 1024 + 1]));
    }

    private static void reservedNames(Session session) throws Exception {
        Connection connection = session.connect();
        String reserved = " name 'amq.mine' contains reserved prefix 'amq.*'";
        channelRefused(connection, 403, "ACCESS_REFUSED - queue" + reserved,
                channel -> channel.queueDeclare("amq.mine", false, true, false, null));
        channelRefused(connection, 403, "ACCESS_REFUSED - exchange" + reserved,
                channel -> channel.exchangeDeclare("amq.mine", "direct"));
        channelRefused(connection, 403, inVhost("ACCESS_REFUSED - deletion of system exchange 'amq.match'") + " not allowed",
                channel -> channel.exchangeDelete("amq.match"));
    }

    private static void defaultExchange(Session session) throws Exception {
        Connection connection = session.connect();
        String queue = session.queue(connection.createChannel());
        channelRefused(connection, 403, "ACCESS_REFUSED - operation not permitted on the default exchange",
                channel -> channel.exchangeDeclare("", "direct"),
                channel -> channel.exchangeDelete(""),
                channel -> channel.queueBind(queue, "", "k"));
    }

    private static void internalExchange(Session session) throws Exception {
        Connection connection = session.connect();
        String name = session.exchangeName();
        connection.createChannel().exchangeDeclare(name, "direct", true, false, true, null);
        channelRefused(connection, 403, inVhost("ACCESS_REFUSED - cannot publish to internal exchange '" + name + "'"),
                channel -> publish(channel, name, "k", "x"));
    }

    private static void exclusiveConsumer(Session session) throws Exception {
        Connection connection = session.connect();
        Channel channel = connection.createChannel();
        String queue = session.queue(channel);
        channel.basicConsume(queue, true, "", false, true, null, (tag, delivery) -> {}, tag -> {});
        channelRefused(connection, 403, inVhost("ACCESS_REFUSED - queue '" + queue + "'") + " in exclusive use",
                other -> consume(other, queue, true));
    }

    private static void wrongPassword(Session session) throws Exception {
        ConnectionFactory factory = Session.factory();
        factory.setPassword("wrong");
        try {
            session.connect(factory);
        } catch (AuthenticationFailureException refused) {
            equal(refused.getMessage(), "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
                    + "For details see the broker logfile.", "the text");
            return;
        }
        throw new AssertionError("a wrong password was accepted");
    }

    private static void missingVhost(Session session) throws Exception {
        ConnectionFactory factory = Session.factory();
        factory.setVirtualHost("no-such-vhost");
        try {
            session.connect(factory);
        } catch (IOException refused) {
            String text = "NOT_ALLOWED - vhost no-such-vhost not found";
            Session.expectConnectionClose((ShutdownSignalException) refused.getCause(), 530, text);
            return;
        }
        throw new AssertionError("a missing vhost was accepted");
    }

    private static void reusedTag(Session session) throws Exception {
        String text = "NOT_ALLOWED - attempt to reuse consumer tag 'twice'";
        connectionRefused(session.connect(), 530, text, channel -> {
            String queue = channel.queueDeclare().getQueue();
            for (int count = 0; count < 2; count++) {
                channel.basicConsume(queue, true, "twice", (tag, delivery) -> {}, tag -> {});
            }
        });
    }

    private static void notImplemented(Session session) throws Exception {
        String refusal = "NOT_IMPLEMENTED - ";
        connectionRefused(session.connect(), 540, refusal + "immediate=true",
                channel -> channel.basicPublish("", "any", false, true, null, new byte[0]));
        connectionRefused(session.connect(), 540, refusal + "prefetch_size!=0 (1)", channel -> channel.basicQos(1, 0, false));
        connectionRefused(session.connect(), 540, refusal + "requeue=false", channel -> channel.basicRecover(false));
    }
}
