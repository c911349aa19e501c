package roadstead;

import static roadstead.Suite.EVENT_MILLIS;

import java.util.Arrays;
import java.util.List;
import org.eclipse.paho.client.mqttv3.IMqttDeliveryToken;
import org.eclipse.paho.client.mqttv3.IMqttToken;
import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttCallback;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;

/** A client of org.eclipse.paho.client.mqttv3. */
final class Mqtt3Client extends MqttClient {
    private final MqttAsyncClient client;
    private final boolean present;

    Mqtt3Client(int version, MqttOptions options) throws Exception {
        super(options.id);
        client = new MqttAsyncClient(MqttSession.address(), id, new MemoryPersistence());
        client.setCallback(new Events());
        IMqttToken token = client.connect(packet(version, options));
        token.waitForCompletion(EVENT_MILLIS);
        present = token.getSessionPresent();
    }

    private static MqttConnectOptions packet(int version, MqttOptions options) {
        MqttConnectOptions packet = new MqttConnectOptions();
        packet.setMqttVersion(version);
        packet.setCleanSession(!options.keep);
        packet.setAutomaticReconnect(options.comesBack);
        packet.setMaxReconnectDelay(200);
        packet.setMaxInflight(100); // it counts messages that are through
        if (MqttSession.user() != null) {
            packet.setUserName(MqttSession.user());
            packet.setPassword(MqttSession.password().toCharArray());
        }
        if (options.will != null) {
            Will will = options.will;
            packet.setWill(will.topic(), Session.bytes(will.payload()), will.qos(), will.retained());
        }
        return packet;
    }

    private final class Events implements MqttCallback {
        @Override
        public void connectionLost(Throwable cause) {
            ends.add(0);
        }

        @Override
        public void messageArrived(String topic, MqttMessage message) {
            messages.add(new Message(topic, message.getPayload(), message.getQos(), message.isRetained(), null));
        }

        @Override
        public void deliveryComplete(IMqttDeliveryToken token) {}
    }

    @Override
    boolean sessionPresent() {
        return present;
    }

    @Override
    List<Integer> subscribe(int qos, String... filters) throws Exception {
        int[] levels = new int[filters.length];
        Arrays.fill(levels, qos);
        IMqttToken token = client.subscribe(filters, levels);
        token.waitForCompletion(EVENT_MILLIS);
        return Arrays.stream(token.getGrantedQos()).boxed().toList();
    }

    @Override
    void unsubscribe(String... filters) throws Exception {
        client.unsubscribe(filters).waitForCompletion(EVENT_MILLIS);
    }

    @Override
    void publish(String topic, byte[] payload, int qos, boolean retained) throws Exception {
        client.publish(topic, payload, qos, retained).waitForCompletion(EVENT_MILLIS);
    }

    @Override
    void disconnect() throws Exception {
        client.disconnect().waitForCompletion(EVENT_MILLIS);
        client.close();
    }

    @Override
    void drop() throws Exception {
        client.disconnectForcibly(0, 1, false);
        client.close();
    }
}
