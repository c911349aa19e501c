package roadstead;

import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;

import jakarta.jms.MessageConsumer;
import java.util.ArrayList;
import java.util.List;

/** Which topics a pattern stands for. */
final class JmsPatterns {
    private JmsPatterns() {}

    static void addTo(Suite suite) {
        suite.add("any-first-word", session -> stands("*.b.U", List.of("a.b.U", "x.b.U"), List.of("b.U", "a.c.U", "a.b.c.U")));
        suite.add("any-word-in-the-middle", session -> stands("U.*.c", List.of("U.a.c", "U.b.c"), List.of("U.c", "U.a.b.c", "U.a.d")));
        suite.add("any-last-word", session -> stands("U.a.*", List.of("U.a.b", "U.a.c"), List.of("U.a", "U.a.b.c", "U.b.c")));
        suite.add("any-two-words", session -> stands("U.*.*", List.of("U.a.b", "U.c.d"), List.of("U.a", "U.a.b.c")));
        suite.add("any-rest", session -> stands("U.a.>", List.of("U.a.b", "U.a.b.c", "U.a"), List.of("U.b", "U.ab")));
        suite.add("any-word-and-any-rest", session -> stands("U.*.>", List.of("U.a.b", "U.a.b.c"), List.of("U")));
        suite.add("patterns-of-several", session -> stands("U.a.*,U.*.z", List.of("U.a.b", "U.x.z"), List.of("U.x.y")));
        suite.add("words-are-not-parts-of-words", session -> stands("U.a*", List.of("U.a*"), List.of("U.ab")));
    }

    /** A pattern stands for some topics and not for others, where U is a word of its own. */
    private static void stands(String pattern, List<String> these, List<String> others) throws Exception {
        String unique = Jms.unique("pattern").replace('.', '-');
        try (Jms jms = Jms.open()) {
            MessageConsumer consumer = jms.consumer(jms.session.createTopic(pattern.replace("U", unique)));
            List<String> all = new ArrayList<>(others);
            all.addAll(these);
            for (String name : all) {
                jms.send(jms.session.createTopic(name.replace("U", unique)), name);
            }
            expect(consumer, these.toArray(String[]::new));
            nothing(consumer);
        }
    }
}
