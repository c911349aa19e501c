package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Suite.equal;

import jakarta.jms.BytesMessage;
import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageEOFException;
import jakarta.jms.MessageFormatException;
import jakarta.jms.MessageNotWriteableException;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.StreamMessage;
import jakarta.jms.TextMessage;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** How values of properties and bodies may be read after their way through the broker. */
final class JmsProperties {
    private JmsProperties() {}

    static void addTo(Suite suite) {
        suite.add("properties-may-be-read-as-other-types", session -> conversions());
        suite.add("received-messages-are-read-only", session -> readOnly());
        suite.add("names-of-properties", session -> names());
        suite.add("properties-at-their-limits", session -> limits());
        suite.add("a-thousand-properties", session -> thousand());
        suite.add("properties-of-lists-and-maps", session -> nested());
        suite.add("values-of-maps-may-be-read-as-other-types", session -> mapConversions());
        suite.add("maps-in-maps", session -> nestedMaps());
        suite.add("an-empty-map", session -> emptyMap());
        suite.add("streams-of-all-types", session -> streams());
        suite.add("bytes-of-all-types", session -> bytes());
        suite.add("objects-of-several-kinds", session -> objects());
        suite.add("compressed-bodies-of-every-type", session -> compressed());
        suite.add("long-texts-of-every-alphabet", session -> longTexts());
    }

    private interface Build<M extends Message> {
        M of(Session session) throws Exception;
    }

    /** A message after its way through the broker. */
    private static <M extends Message> M there(String options, Build<M> build) throws Exception {
        try (Jms jms = Jms.open(options, Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("properties");
            M sent = build.of(jms.session);
            jms.send(queue, sent);
            MessageConsumer consumer = jms.consumer(queue);
            @SuppressWarnings("unchecked")
            M message = (M) consumer.receive(PATIENCE);
            equal(message == null, false, "whether nothing came");
            return message;
        }
    }

    private interface Attempt {
        Object make() throws Exception;
    }

    private static void fails(Class<? extends Exception> expected, Attempt attempt) throws Exception {
        Object result;
        try {
            result = attempt.make();
        } catch (Exception failure) {
            equal(failure.getClass(), expected, "what failed");
            return;
        }
        throw new AssertionError("this should fail, but gave " + result);
    }

    private static void conversions() throws Exception {
        Message message = there("", session -> {
            Message sent = session.createMessage();
            sent.setIntProperty("int", 42);
            sent.setStringProperty("digits", "42");
            sent.setBooleanProperty("bool", true);
            sent.setByteProperty("byte", (byte) 7);
            sent.setFloatProperty("float", 1.5f);
            return sent;
        });
        equal(message.getStringProperty("int"), "42", "a number as text");
        equal(message.getLongProperty("int"), 42L, "a number as a longer one");
        equal(message.getIntProperty("digits"), 42, "text as a number");
        equal(message.getStringProperty("bool"), "true", "a boolean as text");
        equal(message.getShortProperty("byte"), (short) 7, "a byte as a longer number");
        equal(message.getDoubleProperty("float"), 1.5, "a float as a double");
        fails(MessageFormatException.class, () -> message.getShortProperty("int"));
        fails(MessageFormatException.class, () -> message.getBooleanProperty("int"));
        fails(NumberFormatException.class, () -> message.getIntProperty("missing"));
        equal(message.getBooleanProperty("missing"), false, "a boolean that is missing");
        equal(message.getStringProperty("missing"), null, "text that is missing");
    }

    private static void readOnly() throws Exception {
        TextMessage message = there("", session -> {
            TextMessage sent = session.createTextMessage("x");
            sent.setStringProperty("k", "v");
            return sent;
        });
        fails(MessageNotWriteableException.class, () -> {
            message.setText("y");
            return null;
        });
        fails(MessageNotWriteableException.class, () -> {
            message.setStringProperty("k", "w");
            return null;
        });
        message.clearProperties();
        message.setStringProperty("k", "w");
        message.clearBody();
        message.setText("y");
        equal(List.of(message.getText(), message.getStringProperty("k")), List.of("y", "w"), "what it is now");
    }

    private static void names() throws Exception {
        Message message = there("", session -> {
            Message sent = session.createMessage();
            sent.setStringProperty("a", "1");
            sent.setObjectProperty("nothing", null);
            sent.setStringProperty("with_underscore$", "2");
            sent.setStringProperty("JMSXGroupID", "g");
            return sent;
        });
        List<String> names = new ArrayList<>();
        for (Object name : Collections.list(message.getPropertyNames())) {
            names.add((String) name);
        }
        equal(names.containsAll(List.of("a", "with_underscore$", "JMSXGroupID")), true, names.toString());
        equal(message.propertyExists("a"), true, "whether a is there");
        equal(message.propertyExists("b"), false, "whether b is there");
        equal(message.getObjectProperty("nothing"), null, "what is nothing");
    }

    private static void limits() throws Exception {
        Message message = there("", session -> {
            Message sent = session.createMessage();
            sent.setLongProperty("least", Long.MIN_VALUE);
            sent.setLongProperty("most", Long.MAX_VALUE);
            sent.setIntProperty("int", Integer.MIN_VALUE);
            sent.setShortProperty("short", Short.MIN_VALUE);
            sent.setByteProperty("byte", Byte.MIN_VALUE);
            sent.setDoubleProperty("nan", Double.NaN);
            sent.setFloatProperty("infinite", Float.NEGATIVE_INFINITY);
            sent.setStringProperty("empty", "");
            sent.setStringProperty("long", "ü".repeat(50_000));
            return sent;
        });
        equal(message.getLongProperty("least"), Long.MIN_VALUE, "the least long");
        equal(message.getLongProperty("most"), Long.MAX_VALUE, "the largest long");
        equal(message.getIntProperty("int"), Integer.MIN_VALUE, "the least int");
        equal(message.getShortProperty("short"), Short.MIN_VALUE, "the least short");
        equal(message.getByteProperty("byte"), Byte.MIN_VALUE, "the least byte");
        equal(message.getDoubleProperty("nan"), Double.NaN, "no number");
        equal(message.getFloatProperty("infinite"), Float.NEGATIVE_INFINITY, "less than all");
        equal(message.getStringProperty("empty"), "", "empty text");
        equal(message.getStringProperty("long"), "ü".repeat(50_000), "long text");
    }

    private static void thousand() throws Exception {
        Message message = there("", session -> {
            Message sent = session.createMessage();
            for (int i = 0; i < 1000; i++) {
                sent.setIntProperty("p" + i, i);
            }
            return sent;
        });
        for (int i = 0; i < 1000; i++) {
            equal(message.getIntProperty("p" + i), i, "p" + i);
        }
    }

    private static void nested() throws Exception {
        List<Object> list = List.of(1, "two", 3.5);
        Map<String, Object> map = Map.of("inner", Map.of("n", 1L));
        Message message = there("", session -> {
            Message sent = session.createMessage();
            sent.setObjectProperty("list", list);
            sent.setObjectProperty("map", map);
            return sent;
        });
        // The client gives texts in them as something else that reads the same.
        equal(message.getObjectProperty("list").toString(), list.toString(), "the list");
        equal(message.getObjectProperty("map").toString(), map.toString(), "the map");
    }

    private static void mapConversions() throws Exception {
        MapMessage message = there("", session -> {
            MapMessage sent = session.createMapMessage();
            sent.setInt("int", 42);
            sent.setString("digits", "42");
            sent.setObject("nothing", null);
            sent.setBytes("part", new byte[] {1, 2, 3, 4}, 1, 2);
            return sent;
        });
        equal(message.getString("int"), "42", "a number as text");
        equal(message.getLong("digits"), 42L, "text as a number");
        equal(message.getString("nothing"), null, "nothing");
        equal(message.itemExists("nothing"), true, "whether nothing is there");
        equal(message.getBytes("part"), new byte[] {2, 3}, "some bytes");
        fails(MessageFormatException.class, () -> message.getShort("int"));
        fails(MessageNotWriteableException.class, () -> {
            message.setInt("int", 1);
            return null;
        });
    }

    private static void nestedMaps() throws Exception {
        Map<String, Object> inner = Map.of("list", List.of(1, "two"));
        MapMessage message = there("", session -> {
            MapMessage sent = session.createMapMessage();
            sent.setObject("map", inner);
            return sent;
        });
        equal(message.getObject("map").toString(), inner.toString(), "the map");
    }

    private static void emptyMap() throws Exception {
        MapMessage message = there("", Session::createMapMessage);
        equal(message.getMapNames().hasMoreElements(), false, "whether something is in it");
    }

    private static void streams() throws Exception {
        StreamMessage message = there("", session -> {
            StreamMessage sent = session.createStreamMessage();
            sent.writeBoolean(true);
            sent.writeByte((byte) 1);
            sent.writeShort((short) 2);
            sent.writeChar('ü');
            sent.writeInt(3);
            sent.writeLong(4);
            sent.writeFloat(5.5f);
            sent.writeDouble(6.5);
            sent.writeString("seven");
            sent.writeBytes(new byte[] {8, 9});
            sent.writeObject(null);
            return sent;
        });
        List<Object> found = new ArrayList<>();
        for (int i = 0; i < 9; i++) {
            found.add(message.readObject());
        }
        equal(found, List.of(true, (byte) 1, (short) 2, 'ü', 3, 4L, 5.5f, 6.5, "seven"), "what is in it");
        equal(message.readObject(), new byte[] {8, 9}, "the bytes");
        equal(message.readObject(), null, "nothing");
        fails(MessageEOFException.class, message::readObject);
        message.reset();
        equal(message.readString(), "true", "a boolean as text");
    }

    private static void bytes() throws Exception {
        BytesMessage message = there("", session -> {
            BytesMessage sent = session.createBytesMessage();
            sent.writeBoolean(true);
            sent.writeByte((byte) -1);
            sent.writeShort((short) -2);
            sent.writeChar('x');
            sent.writeInt(-3);
            sent.writeLong(-4);
            sent.writeFloat(5.5f);
            sent.writeDouble(6.5);
            sent.writeUTF("süben");
            return sent;
        });
        equal(message.readBoolean(), true, "a boolean");
        equal(message.readUnsignedByte(), 255, "a byte without a sign");
        equal(message.readShort(), (short) -2, "a short");
        equal(message.readChar(), 'x', "a char");
        equal(message.readInt(), -3, "an int");
        equal(message.readLong(), -4L, "a long");
        equal(message.readFloat(), 5.5f, "a float");
        equal(message.readDouble(), 6.5, "a double");
        equal(message.readUTF(), "süben", "text");
        fails(MessageEOFException.class, message::readByte);
        BytesMessage empty = there("", Session::createBytesMessage);
        equal(empty.getBodyLength(), 0L, "the length of nothing");
    }

    private static void objects() throws Exception {
        for (java.io.Serializable object : List.of("text", 42, new ArrayList<>(List.of(1, "two")), new int[] {1, 2}, new java.util.Date(5))) {
            ObjectMessage message = there("", session -> session.createObjectMessage(object));
            equal(message.getObject(), object, "the object");
        }
        ObjectMessage nothing = there("", session -> session.createObjectMessage(null));
        equal(nothing.getObject(), null, "no object");
    }

    private static void compressed() throws Exception {
        String options = "?jms.useCompression=true";
        MapMessage map = there(options, session -> {
            MapMessage sent = session.createMapMessage();
            sent.setString("k", "v".repeat(10_000));
            return sent;
        });
        equal(map.getString("k"), "v".repeat(10_000), "the map's value");
        StreamMessage stream = there(options, session -> {
            StreamMessage sent = session.createStreamMessage();
            sent.writeString("s".repeat(10_000));
            sent.writeInt(1);
            return sent;
        });
        equal(stream.readString(), "s".repeat(10_000), "the stream's text");
        equal(stream.readInt(), 1, "the stream's number");
        ObjectMessage object = there(options, session -> session.createObjectMessage(new ArrayList<>(Collections.nCopies(1000, "x"))));
        equal(object.getObject(), Collections.nCopies(1000, "x"), "the object");
        TextMessage empty = there(options, session -> session.createTextMessage(""));
        equal(empty.getText(), "", "empty text");
        BytesMessage bytes = there(options, session -> {
            BytesMessage sent = session.createBytesMessage();
            sent.writeInt(7);
            return sent;
        });
        equal(bytes.readInt(), 7, "a number in bytes");
    }

    private static void longTexts() throws Exception {
        for (String letters : List.of("a", "ü", "漢", "\uD83D\uDEA2")) {
            String text = letters.repeat(40_000);
            equal(there("", session -> session.createTextMessage(text)).getText().equals(text), true, "whether it is the same in " + letters);
        }
    }
}
