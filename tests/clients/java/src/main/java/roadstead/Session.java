package roadstead;

import static roadstead.Suite.EVENT_MILLIS;
import static roadstead.Suite.equal;
import static roadstead.Suite.until;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;

/** One check's connections, and the durable things that it must not leave behind. */
final class Session implements AutoCloseable {
    private final List<Connection> connections = new ArrayList<>();
    private final List<String> queues = new ArrayList<>();
    private final List<String> exchanges = new ArrayList<>();

    interface Attempt {
        void on(Channel channel) throws Exception;
    }

    static ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv("AMQP_URI"));
        factory.setAutomaticRecoveryEnabled(false);
        return factory;
    }

    static String inVhost(String text) throws Exception {
        return text + " in vhost '" + factory().getVirtualHost() + "'";
    }

    static String unique(String kind) {
        return "roadstead." + kind + "." + UUID.randomUUID().toString().substring(0, 13);
    }

    Connection connect() throws Exception {
        return connect(factory());
    }

    Connection connect(ConnectionFactory factory) throws Exception {
        Connection connection = factory.newConnection();
        connections.add(connection);
        return connection;
    }

    Channel channel() throws Exception {
        return connect().createChannel();
    }

    String queueName() {
        queues.add(unique("q"));
        return queues.get(queues.size() - 1);
    }

    String exchangeName() {
        exchanges.add(unique("x"));
        return exchanges.get(exchanges.size() - 1);
    }

    String queue(Channel channel, Map<String, Object> arguments) throws Exception {
        return channel.queueDeclare(queueName(), true, false, false, arguments).getQueue();
    }

    /** A new durable queue that holds {@code bodies}. */
    String queue(Channel channel, String... bodies) throws Exception {
        String name = queue(channel, Map.of());
        for (String body : bodies) {
            publish(channel, "", name, body);
        }
        until(() -> channel.messageCount(name) == bodies.length, "the messages are ready");
        return name;
    }

    String exchange(Channel channel, String type) throws Exception {
        String name = exchangeName();
        channel.exchangeDeclare(name, type, true);
        return name;
    }

    @Override
    public void close() throws Exception {
        for (Connection connection : connections) {
            connection.abort(1000); // a check may have made the broker close it
        }
        if (queues.isEmpty() && exchanges.isEmpty()) {
            return;
        }
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            for (String name : queues) {
                channel.queueDelete(name);
            }
            for (String name : exchanges) {
                channel.exchangeDelete(name);
            }
        }
    }

    static String[] numbered(int count) {
        return IntStream.range(0, count).mapToObj(number -> "m" + number).toArray(String[]::new);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }

    static void publish(Channel channel, String exchange, String key, String body) throws Exception {
        channel.basicPublish(exchange, key, null, bytes(body));
    }

    /** Returns when the broker has handled everything sent before. */
    static void synchronise(Channel channel) throws Exception {
        channel.basicQos(0);
    }

    static GetResponse get(Channel channel, String queue, boolean autoAck) throws Exception {
        GetResponse response = channel.basicGet(queue, autoAck);
        equal(response != null, true, "a message in " + queue);
        return response;
    }

    static List<String> drain(Channel channel, String queue) throws Exception {
        List<String> bodies = new ArrayList<>();
        for (GetResponse next; (next = channel.basicGet(queue, true)) != null; ) {
            bodies.add(text(next.getBody()));
        }
        return bodies;
    }

    static BlockingQueue<Delivery> consume(Channel channel, String queue, boolean autoAck) throws Exception {
        BlockingQueue<Delivery> arrived = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, autoAck, (tag, delivery) -> arrived.add(delivery), tag -> {});
        return arrived;
    }

    static <T> T next(BlockingQueue<T> arrived, String what) throws Exception {
        T value = arrived.poll(EVENT_MILLIS, TimeUnit.MILLISECONDS);
        equal(value != null, true, "the arrival of a " + what);
        return value;
    }

    static List<Delivery> take(BlockingQueue<Delivery> arrived, int count) throws Exception {
        List<Delivery> taken = new ArrayList<>();
        while (taken.size() < count) {
            taken.add(next(arrived, "delivery"));
        }
        return taken;
    }

    static List<String> bodies(List<Delivery> deliveries) {
        return deliveries.stream().map(delivery -> text(delivery.getBody())).toList();
    }

    /** Expects the broker to close the channel of each attempt with this code and exact text. */
    static void channelRefused(Connection connection, int code, String text, Attempt... attempts) throws Exception {
        for (Attempt attempt : attempts) {
            Channel channel = connection.createChannel();
            CompletableFuture<ShutdownSignalException> closed = new CompletableFuture<>();
            channel.addShutdownListener(closed::complete);
            attemptIt(attempt, channel);
            Method reason = closed.get(EVENT_MILLIS, TimeUnit.MILLISECONDS).getReason();
            AMQP.Channel.Close close = (AMQP.Channel.Close) reason;
            equal(close.getReplyCode() + " " + close.getReplyText(), code + " " + text, "the refusal");
            equal(connection.isOpen(), true, "the connection is open");
        }
    }

    static void connectionRefused(Connection connection, int code, String text, Attempt attempt) throws Exception {
        CompletableFuture<ShutdownSignalException> closed = new CompletableFuture<>();
        connection.addShutdownListener(closed::complete);
        attemptIt(attempt, connection.createChannel());
        expectConnectionClose(closed.get(EVENT_MILLIS, TimeUnit.MILLISECONDS), code, text);
    }

    static void expectConnectionClose(ShutdownSignalException signal, int code, String text) {
        AMQP.Connection.Close close = (AMQP.Connection.Close) signal.getReason();
        equal(close.getReplyCode() + " " + close.getReplyText(), code + " " + text, "the refusal");
    }

    private static void attemptIt(Attempt attempt, Channel channel) throws Exception {
        try {
            attempt.on(channel);
        } catch (AlreadyClosedException alreadyClosed) {
            // reported to the shutdown listener
        } catch (IOException refused) {
            if (!(refused.getCause() instanceof ShutdownSignalException)) {
                throw refused;
            }
        }
    }
}
