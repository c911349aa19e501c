package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.nothing;
import static roadstead.Jms.text;
import static roadstead.Jms.texts;
import static roadstead.Suite.equal;

import jakarta.jms.BytesMessage;
import jakarta.jms.DeliveryMode;
import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.StreamMessage;
import jakarta.jms.TextMessage;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;

/** Bodies, headers and properties come as they were sent. */
final class JmsMessages {
    private JmsMessages() {}

    static void addTo(Suite suite) {
        suite.add("text-in-every-alphabet", session -> text("", "hello", "ü \u0000 \uD83D\uDEA2 漢字", "x".repeat(100_000)));
        suite.add("null-text", session -> text((String) null));
        suite.add("bytes", session -> bytes());
        suite.add("map", session -> map());
        suite.add("stream", session -> stream());
        suite.add("object", session -> object());
        suite.add("empty-message", session -> empty());
        suite.add("properties-of-all-types", session -> properties());
        suite.add("headers", session -> headers());
        suite.add("compressed-bodies", session -> compressed());
        suite.add("a-large-message", 30_000, session -> large());
        suite.add("a-message-of-64-mib", 30_000, session -> huge());
        suite.add("loose-encoding-without-cache", session -> encodings("?wireFormat.cacheEnabled=false&wireFormat.tightEncodingEnabled=false"));
        suite.add("tight-encoding-without-cache", session -> encodings("?wireFormat.cacheEnabled=false"));
        suite.add("older-versions", 30_000, session -> versions());
        suite.add("expired-messages-do-not-come", session -> expiry());
        suite.add("several-destinations-at-once", session -> composite());
        suite.add("asynchronous-sends-keep-their-order", session -> asynchronous());
        suite.add("a-window-of-a-producer", session -> window());
    }

    private interface Build {
        Message of(Session session) throws Exception;
    }

    /** Sends a message over a connection with options, and gets it. */
    private static Message there(String options, Build build) throws Exception {
        try (Jms jms = Jms.open(options, Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("message");
            jms.send(queue, build.of(jms.session));
            MessageConsumer consumer = jms.consumer(queue);
            Message message = consumer.receive(PATIENCE);
            consumer.close();
            jms.forget(queue);
            return message;
        }
    }

    private static void text(String... texts) throws Exception {
        for (String text : texts) {
            equal(Jms.text(there("", session -> session.createTextMessage(text))), text, "the text");
        }
    }

    private static void bytes() throws Exception {
        byte[] sent = new byte[1000];
        new java.util.Random(1).nextBytes(sent);
        BytesMessage message = (BytesMessage) there("", session -> {
            BytesMessage bytes = session.createBytesMessage();
            bytes.writeBytes(sent);
            return bytes;
        });
        byte[] got = new byte[(int) message.getBodyLength()];
        message.readBytes(got);
        equal(Arrays.equals(got, sent), true, "whether the bytes are equal");
    }

    private static void map() throws Exception {
        MapMessage message = (MapMessage) there("", session -> {
            MapMessage map = session.createMapMessage();
            map.setBoolean("bool", true);
            map.setChar("char", 'x');
            map.setLong("long", Long.MIN_VALUE);
            map.setDouble("double", 1.5);
            map.setBytes("bytes", new byte[] {1, 2});
            map.setString("text", "ü");
            return map;
        });
        equal(message.getBoolean("bool"), true, "bool");
        equal(message.getChar("char"), 'x', "char");
        equal(message.getLong("long"), Long.MIN_VALUE, "long");
        equal(message.getDouble("double"), 1.5, "double");
        equal(message.getBytes("bytes").length, 2, "bytes");
        equal(message.getString("text"), "ü", "text");
    }

    private static void stream() throws Exception {
        StreamMessage message = (StreamMessage) there("", session -> {
            StreamMessage stream = session.createStreamMessage();
            stream.writeInt(7);
            stream.writeString("x");
            stream.writeFloat(0.5f);
            return stream;
        });
        equal(List.of(message.readInt(), message.readString(), message.readFloat()), List.of(7, "x", 0.5f), "the stream");
    }

    private static void object() throws Exception {
        ArrayList<String> sent = new ArrayList<>(List.of("a", "b"));
        Message message = there("", session -> session.createObjectMessage(sent));
        equal(((ObjectMessage) message).getObject(), sent, "the object");
    }

    private static void empty() throws Exception {
        Message message = there("", Session::createMessage);
        equal(message instanceof TextMessage || message instanceof BytesMessage, false, "whether it has a body");
    }

    private static void properties() throws Exception {
        Message message = there("", session -> {
            Message sent = session.createMessage();
            sent.setBooleanProperty("bool", true);
            sent.setByteProperty("byte", (byte) -1);
            sent.setShortProperty("short", (short) -2);
            sent.setIntProperty("int", -3);
            sent.setLongProperty("long", -4);
            sent.setFloatProperty("float", 0.25f);
            sent.setDoubleProperty("double", 0.125);
            sent.setStringProperty("text", "漢");
            return sent;
        });
        equal(message.getObjectProperty("bool"), true, "bool");
        equal(message.getObjectProperty("byte"), (byte) -1, "byte");
        equal(message.getObjectProperty("short"), (short) -2, "short");
        equal(message.getObjectProperty("int"), -3, "int");
        equal(message.getObjectProperty("long"), -4L, "long");
        equal(message.getObjectProperty("float"), 0.25f, "float");
        equal(message.getObjectProperty("double"), 0.125, "double");
        equal(message.getObjectProperty("text"), "漢", "text");
        equal(new ArrayList<>(Collections.list((java.util.Enumeration<?>) message.getPropertyNames())).contains("none"), false, "none");
    }

    private static void headers() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("headers");
            Topic reply = jms.topic("reply");
            MessageProducer producer = jms.session.createProducer(queue);
            Message sent = jms.session.createTextMessage("x");
            sent.setJMSCorrelationID("correlation");
            sent.setJMSType("type");
            sent.setJMSReplyTo(reply);
            sent.setStringProperty("JMSXGroupID", "group");
            sent.setIntProperty("JMSXGroupSeq", 3);
            producer.send(sent, DeliveryMode.NON_PERSISTENT, 7, 60_000);
            MessageConsumer consumer = jms.consumer(queue);
            Message message = consumer.receive(PATIENCE);
            equal(message.getJMSMessageID(), sent.getJMSMessageID(), "the id");
            equal(message.getJMSCorrelationID(), "correlation", "the correlation id");
            equal(message.getJMSType(), "type", "the type");
            equal(message.getJMSReplyTo(), reply, "where to reply");
            equal(message.getJMSDestination(), queue, "the destination");
            equal(message.getJMSPriority(), 7, "the priority");
            equal(message.getJMSDeliveryMode(), DeliveryMode.NON_PERSISTENT, "the delivery mode");
            equal(message.getJMSExpiration(), sent.getJMSExpiration(), "the expiration");
            equal(message.getJMSTimestamp(), sent.getJMSTimestamp(), "the timestamp");
            equal(message.getJMSRedelivered(), false, "whether it came before");
            equal(message.getStringProperty("JMSXGroupID"), "group", "the group");
            equal(message.getIntProperty("JMSXGroupSeq"), 3, "its number in the group");
            equal(message.getIntProperty("JMSXDeliveryCount"), 1, "the count of deliveries");
            consumer.close();
            jms.forget(queue);
        }
    }

    private static void compressed() throws Exception {
        String text = "compress me ".repeat(1000);
        equal(Jms.text(there("?jms.useCompression=true", session -> session.createTextMessage(text))), text, "the text");
        BytesMessage bytes = (BytesMessage) there("?jms.useCompression=true", session -> {
            BytesMessage sent = session.createBytesMessage();
            sent.writeBytes(text.getBytes());
            return sent;
        });
        equal(bytes.getBodyLength(), (long) text.length(), "the length of the bytes");
    }

    private static void large() throws Exception {
        byte[] sent = new byte[8 * 1024 * 1024];
        Arrays.fill(sent, (byte) 7);
        BytesMessage message = (BytesMessage) there("", session -> {
            BytesMessage bytes = session.createBytesMessage();
            bytes.writeBytes(sent);
            return bytes;
        });
        equal(message.getBodyLength(), (long) sent.length, "the length");
    }

    private static void huge() throws Exception {
        byte[] sent = new byte[64 * 1024 * 1024];
        for (int i = 0; i < sent.length; i++) {
            sent[i] = (byte) (i * 31 >> 8);
        }
        BytesMessage message = (BytesMessage) there("", session -> {
            BytesMessage bytes = session.createBytesMessage();
            bytes.writeBytes(sent);
            return bytes;
        });
        byte[] came = new byte[sent.length];
        equal(message.readBytes(came), sent.length, "the length");
        equal(Arrays.equals(came, sent), true, "whether the bytes are the same");
    }

    private static void encodings(String options) throws Exception {
        equal(Jms.text(there(options, session -> session.createTextMessage("hello"))), "hello", "the text");
    }

    private static void versions() throws Exception {
        // Those that this client still has.
        for (int version : new int[] {1, 9, 10, 11}) {
            encodings("?wireFormat.version=" + version);
        }
    }

    private static void expiry() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("expiry");
            MessageProducer producer = jms.session.createProducer(queue);
            producer.send(jms.session.createTextMessage("short"), DeliveryMode.PERSISTENT, 4, 50);
            producer.send(jms.session.createTextMessage("long"), DeliveryMode.PERSISTENT, 4, 60_000);
            Thread.sleep(200);
            MessageConsumer consumer = jms.consumer(queue);
            equal(Jms.text(consumer), "long", "the first message that comes");
            consumer.close();
            jms.forget(queue);
        }
    }

    private static void composite() throws Exception {
        try (Jms jms = Jms.open()) {
            String queue = Jms.unique("composite");
            String topic = Jms.unique("composite");
            MessageConsumer fromQueue = jms.consumer(jms.session.createQueue(queue));
            MessageConsumer fromTopic = jms.consumer(jms.session.createTopic(topic));
            jms.send(jms.session.createQueue(queue + ",topic://" + topic), "both");
            equal(List.of(Jms.text(fromQueue), Jms.text(fromTopic)), List.of("both", "both"), "what came");
            MessageConsumer both = jms.consumer(jms.session.createQueue(queue + ".a," + queue + ".b"));
            jms.send(jms.session.createQueue(queue + ".a"), "a");
            jms.send(jms.session.createQueue(queue + ".b"), "b");
            List<String> found = new ArrayList<>(texts(both, 2));
            Collections.sort(found);
            equal(found, List.of("a", "b"), "what came from two queues");
        }
    }

    private static void asynchronous() throws Exception {
        try (Jms jms = Jms.open("?jms.useAsyncSend=true", Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("async");
            MessageConsumer consumer = jms.consumer(queue);
            List<String> sent = new ArrayList<>();
            for (int i = 0; i < 2000; i++) {
                sent.add("m" + i);
            }
            jms.send(queue, sent.toArray(String[]::new));
            equal(texts(consumer, sent.size()), sent, "what came");
            nothing(consumer);
        }
    }

    private static void window() throws Exception {
        try (Jms jms = Jms.open("?jms.useAsyncSend=true&jms.producerWindowSize=2000", Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("window");
            MessageConsumer consumer = jms.consumer(queue);
            String[] sent = new String[200];
            Arrays.fill(sent, "x".repeat(200));
            jms.send(queue, sent);
            equal(texts(consumer, sent.length).size(), sent.length, "how many came");
        }
    }
}
