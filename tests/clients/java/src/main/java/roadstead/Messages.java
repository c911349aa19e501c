package roadstead;

import static roadstead.Session.bodies;
import static roadstead.Session.bytes;
import static roadstead.Session.consume;
import static roadstead.Session.drain;
import static roadstead.Session.get;
import static roadstead.Session.next;
import static roadstead.Session.numbered;
import static roadstead.Session.publish;
import static roadstead.Session.synchronise;
import static roadstead.Session.take;
import static roadstead.Session.text;
import static roadstead.Session.unique;
import static roadstead.Suite.equal;
import static roadstead.Suite.until;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoverableConnection;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.Return;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.RpcServer;
import java.math.BigDecimal;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Publishing, consuming, transactions, and what outlives a restart. */
final class Messages {
    private Messages() {}

    static void addTo(Suite suite) {
        suite.add("publish-with-confirms", Messages::confirms);
        suite.add("mandatory-return", Messages::mandatoryReturn);
        suite.add("reject-publish-nacks", Messages::rejectPublish);
        suite.add("message-sizes", Messages::sizes);
        suite.add("properties-round-trip", Messages::properties);
        suite.add("header-types-round-trip", Messages::headerTypes);
        suite.add("tx-commit", Messages::commit);
        suite.add("tx-rollback", Messages::rollback);
        suite.add("consume-with-manual-acks", Messages::manualAcks);
        suite.add("get-and-get-empty", Messages::getAndGetEmpty);
        suite.add("ack-multiple", Messages::ackMultiple);
        suite.add("nack-requeue-keeps-the-order", Messages::nackRequeue);
        suite.add("reject-dead-letters", Messages::rejectDeadLetters);
        suite.add("recover-requeues", Messages::recover);
        suite.add("prefetch-per-consumer", Messages::prefetch);
        suite.add("consumer-cancel-notify", Messages::cancelNotify);
        suite.add("direct-reply-to", Messages::directReplyTo);
        suite.add("two-thousand-channels", 40_000, Messages::twoThousandChannels);
        suite.add("restart-and-automatic-recovery", 60_000, Messages::restart);
    }

    private static void confirms(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel);
        channel.confirmSelect();
        for (String body : numbered(1000)) {
            channel.basicPublish("", queue, true, MessageProperties.MINIMAL_PERSISTENT_BASIC, bytes(body));
        }
        channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
        equal(channel.messageCount(queue), 1000L, "messages after their confirms");
        equal(drain(channel, queue), List.of(numbered(1000)), "bodies");
    }

    private static void mandatoryReturn(Session session) throws Exception {
        Channel channel = session.channel();
        BlockingQueue<Return> returns = new LinkedBlockingQueue<>();
        channel.addReturnListener(returns::add);
        channel.confirmSelect();
        String missing = unique("nowhere");
        channel.basicPublish("", missing, true, null, bytes("back"));
        channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
        Return returned = next(returns, "return");
        equal(List.of(returned.getReplyCode(), returned.getReplyText()), List.of(312, "NO_ROUTE"), "the reason");
        equal(List.of(returned.getRoutingKey(), text(returned.getBody())), List.of(missing, "back"), "the message");
    }

    private static void rejectPublish(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel, Map.of("x-max-length", 1, "x-overflow", "reject-publish"));
        channel.confirmSelect();
        publish(channel, "", queue, "fits");
        equal(channel.waitForConfirms(Suite.EVENT_MILLIS), true, "ack of the first");
        publish(channel, "", queue, "too many");
        equal(channel.waitForConfirms(Suite.EVENT_MILLIS), false, "ack of the second");
        equal(drain(channel, queue), List.of("fits"), "what the queue took");
    }

    private static void sizes(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel);
        channel.confirmSelect();
        for (int size : new int[] {0, 1, 128 * 1024 - 8, 128 * 1024 + 1, 1_000_000, 16 * 1024 * 1024}) {
            byte[] sent = new byte[size];
            new Random(size).nextBytes(sent);
            channel.basicPublish("", queue, null, sent);
            channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
            byte[] received = get(channel, queue, true).getBody();
            equal(received.length, size, "size");
            equal(digest(received), digest(sent), "digest of " + size + " bytes");
        }
    }

    private static byte[] digest(byte[] body) throws Exception {
        return MessageDigest.getInstance("SHA-256").digest(body);
    }

    private static void properties(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel);
        AMQP.BasicProperties sent = new AMQP.BasicProperties.Builder()
                .contentType("text/plain").contentEncoding("gzip").deliveryMode(2).priority(9).correlationId("correlation")
                .replyTo("reply.queue").expiration("60000").messageId("message").timestamp(new Date(1_700_000_000_000L))
                .type("kind").userId(Session.factory().getUsername()).appId("suite").clusterId("cluster").build();
        channel.basicPublish("", queue, sent, bytes("x"));
        synchronise(channel);
        equal(get(channel, queue, true).getProps(), sent, "the properties");
    }

    private static void headerTypes(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel);
        Map<String, Object> sent = new HashMap<>();
        sent.put("boolean", true);
        sent.put("byte", (byte) -5);
        sent.put("short", (short) -300);
        sent.put("int", -70_000);
        sent.put("long", Long.MIN_VALUE);
        sent.put("float", 1.25f);
        sent.put("double", -2.5);
        sent.put("decimal", new BigDecimal("3.14"));
        sent.put("string", "grüße \u2603");
        sent.put("date", new Date(1_700_000_000_000L));
        sent.put("void", null);
        sent.put("table", Map.of("inner", Map.of("deep", 1)));
        sent.put("array", Arrays.asList(1, "two", null, true, List.of(3)));
        sent.put("bytes", new byte[] {0, -1});
        channel.basicPublish("", queue, new AMQP.BasicProperties.Builder().headers(sent).build(), bytes("x"));
        synchronise(channel);
        Map<String, Object> received = new HashMap<>(plain(get(channel, queue, true).getProps().getHeaders()));
        equal((byte[]) received.remove("bytes"), (byte[]) sent.remove("bytes"), "the bytes");
        equal(received, sent, "the headers");
    }

    static Map<String, Object> plain(Map<?, ?> table) {
        Map<String, Object> result = new HashMap<>();
        table.forEach((key, value) -> result.put((String) key, plain(value)));
        return result;
    }

    private static Object plain(Object value) {
        if (value instanceof LongString string) {
            return string.toString();
        } else if (value instanceof Map<?, ?> table) {
            return plain(table);
        } else if (value instanceof List<?> array) {
            List<Object> result = new ArrayList<>();
            array.forEach(each -> result.add(plain(each)));
            return result;
        }
        return value;
    }

    private static void commit(Session session) throws Exception {
        Channel channel = session.channel();
        Channel other = session.channel();
        String queue = session.queue(channel, "old");
        channel.txSelect();
        channel.basicAck(get(channel, queue, false).getEnvelope().getDeliveryTag(), false);
        publish(channel, "", queue, "new");
        synchronise(channel);
        equal(other.messageCount(queue), 0L, "messages before the commit");
        channel.txCommit();
        channel.close();
        equal(drain(other, queue), List.of("new"), "messages after the commit");
    }

    private static void rollback(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel, "old");
        channel.txSelect();
        long tag = get(channel, queue, false).getEnvelope().getDeliveryTag();
        channel.basicAck(tag, false);
        publish(channel, "", queue, "never");
        channel.txRollback();
        equal(channel.messageCount(queue), 0L, "messages after the roll-back");
        channel.close();
        Channel other = session.channel();
        until(() -> other.messageCount(queue) == 1, "the message that was not acknowledged is back");
        equal(drain(other, queue), List.of("old"), "messages after the channel's end");
    }

    private static void manualAcks(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel, numbered(10));
        List<Delivery> deliveries = take(consume(channel, queue, false), 10);
        equal(bodies(deliveries), List.of(numbered(10)), "bodies");
        for (int index = 0; index < 10; index++) {
            equal(deliveries.get(index).getEnvelope().getDeliveryTag(), index + 1L, "delivery tag");
            equal(deliveries.get(index).getEnvelope().isRedeliver(), false, "redelivered");
            channel.basicAck(index + 1, false);
        }
        channel.close();
        equal(session.channel().messageCount(queue), 0L, "messages after their acks");
    }

    private static void getAndGetEmpty(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel, numbered(2));
        GetResponse response = get(channel, queue, true);
        equal(List.of(text(response.getBody()), response.getMessageCount()), List.of("m0", 1), "the first");
        equal(drain(channel, queue), List.of("m1"), "the rest");
        equal(channel.basicGet(queue, true), null, "a message of an empty queue");
    }

    private static void ackMultiple(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel, numbered(6));
        take(consume(channel, queue, false), 6);
        channel.basicAck(4, true);
        channel.close();
        equal(drain(session.channel(), queue), List.of("m4", "m5"), "what was not acknowledged");
    }

    private static void nackRequeue(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel, numbered(5));
        for (int count = 0; count < 3; count++) {
            get(channel, queue, false);
        }
        for (long tag : new long[] {2, 1, 3}) {
            channel.basicNack(tag, false, true);
        }
        for (int index = 0; index < 5; index++) {
            GetResponse response = get(channel, queue, true);
            equal(text(response.getBody()), "m" + index, "body");
            equal(response.getEnvelope().isRedeliver(), index < 3, "redelivered");
        }
    }

    private static void rejectDeadLetters(Session session) throws Exception {
        Channel channel = session.channel();
        String grave = session.queue(channel);
        String queue = session.queue(channel, Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", grave));
        publish(channel, "", queue, "bad");
        BlockingQueue<Delivery> dead = consume(channel, grave, true);
        take(consume(channel, queue, false), 1);
        channel.basicReject(1, false);
        Delivery delivery = next(dead, "dead letter");
        Map<?, ?> death = (Map<?, ?>) ((List<?>) plain(delivery.getProperties().getHeaders()).get("x-death")).get(0);
        equal(death.remove("time") instanceof Date, true, "the time is a date");
        equal(death, Map.of("count", 1L, "reason", "rejected", "queue", queue, "exchange", "", "routing-keys", List.of(queue)),
                "x-death");
    }

    private static void recover(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel, numbered(2));
        BlockingQueue<Delivery> arrived = consume(channel, queue, false);
        take(arrived, 2);
        channel.basicRecover(true);
        List<Delivery> again = take(arrived, 2);
        equal(bodies(again), List.of(numbered(2)), "bodies");
        equal(again.stream().allMatch(delivery -> delivery.getEnvelope().isRedeliver()), true, "redelivered");
    }

    private static void prefetch(Session session) throws Exception {
        Channel channel = session.channel();
        channel.basicQos(2);
        for (String queue : List.of(session.queue(channel, numbered(6)), session.queue(channel, numbered(6)))) {
            BlockingQueue<Delivery> arrived = consume(channel, queue, false);
            Delivery first = take(arrived, 2).get(0);
            equal(channel.messageCount(queue), 4L, "messages held back");
            equal(arrived.size(), 0, "deliveries over the prefetch");
            channel.basicAck(first.getEnvelope().getDeliveryTag(), false);
            equal(bodies(take(arrived, 1)), List.of("m2"), "the next after an ack");
        }
    }

    private static void cancelNotify(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = session.queue(channel);
        BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
        String tag = channel.basicConsume(queue, true, (consumer, delivery) -> {}, cancelled::add);
        session.channel().queueDelete(queue);
        equal(next(cancelled, "cancel"), tag, "the cancelled consumer");
        synchronise(channel);
    }

    /** The client's own RPC classes, which use the direct reply-to queue by default. */
    private static void directReplyTo(Session session) throws Exception {
        Channel serving = session.channel();
        String requests = session.queue(serving);
        RpcServer server = new RpcServer(serving, requests) {
            @Override
            public byte[] handleCall(Delivery request, AMQP.BasicProperties reply) {
                boolean direct = request.getProperties().getReplyTo().startsWith("amq.rabbitmq.reply-to.");
                return bytes(direct + " " + text(request.getBody()));
            }
        };
        Thread loop = new Thread(() -> {
            try {
                server.mainloop();
            } catch (Exception closing) {
                Thread.currentThread().interrupt();
            }
        });
        loop.setDaemon(true);
        loop.start();
        RpcClient client = new RpcClient(new RpcClientParams().channel(session.channel()).exchange("").routingKey(requests));
        for (String body : numbered(5)) {
            equal(text(client.primitiveCall(bytes(body))), "true " + body, "the reply");
        }
        client.close();
        server.terminateMainloop();
    }

    private static void twoThousandChannels(Session session) throws Exception {
        Connection connection = session.connect();
        List<Channel> channels = new ArrayList<>();
        while (channels.size() < 2000) {
            channels.add(connection.createChannel());
        }
        String queue = session.queue(channels.get(0));
        List<String> expected = new ArrayList<>();
        for (int index : new int[] {0, 999, 1999}) {
            publish(channels.get(index), "", queue, "" + index);
            synchronise(channels.get(index));
            expected.add("" + index);
        }
        equal(drain(channels.get(1500), queue), expected, "one message of each channel");
        equal(channels.stream().map(Channel::getChannelNumber).distinct().count(), 2000L, "channel numbers");
    }

    /** What was confirmed is still there, and the client's automatic recovery comes back with its exclusive queue. */
    private static void restart(Session session) throws Exception {
        Channel channel = session.channel();
        String exchange = session.exchange(channel, "topic");
        String queue = session.queue(channel);
        channel.queueBind(queue, exchange, "kept.*");
        channel.confirmSelect();
        for (String body : numbered(5)) {
            channel.basicPublish(exchange, "kept.now", MessageProperties.MINIMAL_PERSISTENT_BASIC, bytes(body));
        }
        publish(channel, exchange, "kept.now", "transient");
        channel.waitForConfirmsOrDie(Suite.EVENT_MILLIS);
        CountDownLatch recovered = new CountDownLatch(1);
        BlockingQueue<Delivery> arrived = recoveringConsumer(session, exchange, recovered);

        Streams.Kept kept = new Streams.Kept(session);

        Suite.restartBroker();

        equal(recovered.await(20, TimeUnit.SECONDS), true, "the client has recovered");
        Channel fresh = session.channel();
        equal(drain(fresh, queue), List.of(numbered(5)), "the messages after the restart");
        publish(fresh, exchange, "recovered.now", "after");
        equal(bodies(take(arrived, 1)), List.of("after"), "the recovered consumer's delivery");
        kept.judge(session);
    }

    private static BlockingQueue<Delivery> recoveringConsumer(Session session, String exchange, CountDownLatch recovered)
            throws Exception {
        ConnectionFactory factory = Session.factory();
        factory.setAutomaticRecoveryEnabled(true);
        factory.setNetworkRecoveryInterval(100);
        Connection connection = session.connect(factory);
        ((RecoverableConnection) connection).addRecoveryListener(new RecoveryListener() {
            @Override
            public void handleRecovery(Recoverable recoverable) {
                recovered.countDown();
            }

            @Override
            public void handleRecoveryStarted(Recoverable recoverable) {}
        });
        Channel channel = connection.createChannel();
        String queue = channel.queueDeclare().getQueue();
        channel.queueBind(queue, exchange, "recovered.#");
        return consume(channel, queue, true);
    }
}
